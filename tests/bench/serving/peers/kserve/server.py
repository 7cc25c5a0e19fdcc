"""A LightGBM text behind KServe's model server, as KServe's own server for LightGBM does it: `--model_file`."""

import argparse

import lightgbm
from kserve import Model, ModelServer, model_server
from kserve.utils.utils import get_predict_input, get_predict_response


class House(Model):
    def __init__(self, file):
        super().__init__("house")
        self._booster = lightgbm.Booster(model_file=file)
        self.ready = True

    def predict(self, payload, headers=None):  # noqa: ARG002 - KServe's
        found = self._booster.predict(get_predict_input(payload), num_threads=1)
        return get_predict_response(payload, found, self.name)


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--model_file")
ModelServer().start([House(parser.parse_args().model_file)])
