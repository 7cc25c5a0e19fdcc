"""Serves a LightGBM model with BentoML, in the ways of its documentation. The bench measures the fastest."""

import os

import bentoml
import lightgbm
import numpy as np


@bentoml.service(
    name="house",
    workers=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class House:
    def __init__(self):
        self._booster = lightgbm.Booster(model_file=os.environ["MODEL_FILE"])

    @bentoml.api
    def in_thread(self, features: np.ndarray) -> np.ndarray:
        return self._booster.predict(features, num_threads=1)

    @bentoml.api
    async def inline(self, features: np.ndarray) -> np.ndarray:
        return self._booster.predict(features, num_threads=1)

    @bentoml.api
    async def of_lists(self, features: list[list[float]]) -> list[float]:
        return self._booster.predict(np.array(features), num_threads=1).tolist()

    @bentoml.api(batchable=True, max_batch_size=10_000, max_latency_ms=1_000)
    async def gathered(self, features: np.ndarray) -> np.ndarray:
        return self._booster.predict(features, num_threads=1)
