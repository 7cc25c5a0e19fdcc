"""LightGBM through ctypes is LightGBM."""

from __future__ import annotations

import threading
from array import array
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.booster import Booster
from core.errors import BundleError

from .conftest import Trained


@pytest.fixture(scope="module")
def booster(trained: Trained) -> Booster:
    return Booster(trained.booster.model_to_string())


@pytest.mark.parametrize("rows", [1, 2, 999, 1000, 2500])
def test_predictions_are_those_of_lightgbm_to_the_last_bit(booster: Booster, trained: Trained, rows: int) -> None:
    matrix = trained.matrix[:rows]
    assert np.array_equal(booster.predict(matrix), np.asarray(trained.booster.predict(matrix)))


def one_by_one(booster: Booster, matrix: np.ndarray) -> list[float]:
    return [booster.predict_one(array("f", row)) for row in matrix.tolist()]


def test_one_row_is_predicted_as_among_others_to_the_last_bit(booster: Booster, trained: Trained) -> None:
    draw = np.random.default_rng(3)
    matrix = trained.matrix[:2000].copy()
    for special in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-45):
        matrix[draw.random(matrix.shape) < 0.02] = special
    assert one_by_one(booster, matrix) == booster.predict(matrix).tolist()
    assert one_by_one(booster, matrix) == np.asarray(trained.booster.predict(matrix)).tolist()


def test_threads_may_predict_one_row_each_while_others_explain(trained: Trained) -> None:
    fresh = Booster(trained.booster.model_to_string())
    matrix = trained.matrix[:200]
    want = fresh.predict(matrix).tolist()
    with ThreadPoolExecutor(8) as threads:
        explained = [threads.submit(fresh.contributions, matrix[:20]) for _ in range(8)]
        found = list(threads.map(lambda _: one_by_one(fresh, matrix), range(32)))
    assert all(each == want for each in found)
    assert all(np.array_equal(each.result(), explained[0].result()) for each in explained)


def test_model_lives_as_long_as_somebody_predicts_with_it(trained: Trained) -> None:
    """Models are replaced while others predict; what holds one may use it to the end."""
    text, row = trained.booster.model_to_string(), array("f", trained.matrix[0].tolist())
    held = [Booster(text)]
    want, ended = held[0].predict_one(row), threading.Event()

    def replace() -> None:
        while not ended.is_set():
            held[0] = Booster(text)

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            found = set(threads.map(lambda _: held[0].predict_one(row), range(20_000)))
    finally:
        ended.set()
        replacing.join()
    assert found == {want}


@pytest.mark.parametrize("row", [array("f", [0.0] * 17), array("f", [0.0] * 19), array("d", [0.0] * 18)])
def test_row_of_another_width_or_type_is_refused(booster: Booster, row: array[float]) -> None:
    with pytest.raises(BundleError, match="the model has 18 features as float32, the row"):
        booster.predict_one(row)


@pytest.mark.parametrize("rows", [0, 1, 2, 1500])
def test_contributions_are_those_of_lightgbm_and_add_up(booster: Booster, trained: Trained, rows: int) -> None:
    matrix = trained.matrix[:rows]
    found = booster.contributions(matrix)
    assert found.shape == (rows, booster.features + 1)
    assert np.allclose(found.sum(axis=1), booster.predict(matrix), rtol=0, atol=1e-9)
    if rows:
        assert np.array_equal(found, np.asarray(trained.booster.predict(matrix, pred_contrib=True)))


def test_threads_may_explain_and_predict_at_once(trained: Trained) -> None:
    matrix = trained.matrix[:10]
    want = np.asarray(trained.booster.predict(matrix, pred_contrib=True))
    fresh = Booster(trained.booster.model_to_string())
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: (fresh.contributions(matrix), fresh.predict(matrix)), range(64)))
    assert all(np.array_equal(explained, want) for explained, _ in found)
    assert all(np.array_equal(predicted, found[0][1]) for _, predicted in found)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, 5e-324])
def test_special_values_are_lightgbms_too(booster: Booster, trained: Trained, special: float) -> None:
    matrix = trained.matrix[:50].astype(np.float64)
    matrix[np.arange(50), np.arange(50) % booster.features] = special
    matrix[0] = special
    assert np.array_equal(booster.predict(matrix), np.asarray(trained.booster.predict(matrix)))


def test_layout_and_type_of_the_matrix_do_not_matter(booster: Booster, trained: Trained) -> None:
    matrix = trained.matrix[:64]
    want = booster.predict(matrix)
    assert np.array_equal(booster.predict(np.asfortranarray(matrix)), want)
    assert np.array_equal(booster.predict(np.repeat(matrix, 2, axis=0)[::2]), want)


def test_no_rows_give_no_predictions(booster: Booster) -> None:
    assert booster.predict(np.empty((0, booster.features))).shape == (0,)


def test_threads_do_not_disturb_each_other(booster: Booster, trained: Trained) -> None:
    want = booster.predict(trained.matrix)
    parts = [slice(begin, begin + 100) for begin in range(0, 2000, 100)] * 5
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda part: booster.predict(trained.matrix[part]), parts))
    for part, predicted in zip(parts, found, strict=True):
        assert np.array_equal(predicted, want[part])


def test_it_knows_what_it_was_trained_with(booster: Booster, trained: Trained) -> None:
    assert booster.features == trained.booster.num_feature()
    assert booster.rounds == trained.booster.current_iteration()


@pytest.mark.parametrize("shape", [(3, 1), (3, 19), (18,)])
def test_matrix_of_another_width_is_refused(booster: Booster, shape: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match=r"the model has 18 features, the matrix has shape"):
        booster.predict(np.zeros(shape))


def test_text_that_is_no_model_is_refused() -> None:
    with pytest.raises(BundleError, match="LightGBM refused"):
        Booster("not a model")
