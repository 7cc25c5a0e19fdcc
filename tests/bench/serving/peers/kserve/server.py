"""Serves a LightGBM model (`--model_file`) with KServe's model server, like KServe's own server for LightGBM."""

import argparse

import lightgbm
from kserve import Model, ModelServer, model_server
from kserve.utils.utils import get_predict_input, get_predict_response


class House(Model):
    def __init__(self, file):
        super().__init__("house")
        self._booster = lightgbm.Booster(model_file=file)
        self.ready = True

    def predict(self, payload, headers=None):  # noqa: ARG002 - signature of KServe
        prices = self._booster.predict(get_predict_input(payload), num_threads=1)
        return get_predict_response(payload, prices, self.name)


parser = argparse.ArgumentParser(parents=[model_server.parser])
parser.add_argument("--model_file")
ModelServer().start([House(parser.parse_args().model_file)])
