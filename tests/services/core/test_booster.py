"""Predictions through ctypes are the same as those of the lightgbm package."""

from __future__ import annotations

import threading
from array import array
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from core.errors import BundleError
from core.model.booster import Booster

from .conftest import Trained


@pytest.fixture(scope="module")
def booster(trained: Trained) -> Booster:
    return Booster(trained.booster.model_to_string())


@pytest.mark.parametrize("rows", [1, 2, 999, 1000, 2500])
def test_predictions_are_bit_identical_to_lightgbm(booster: Booster, trained: Trained, rows: int) -> None:
    matrix = trained.matrix[:rows]
    assert np.array_equal(booster.predict(matrix), np.asarray(trained.booster.predict(matrix)))


def one_by_one(booster: Booster, matrix: np.ndarray) -> list[float]:
    return [booster.predict_one(array("f", row)) for row in matrix.tolist()]


def test_one_row_is_bit_identical_alone_and_among_others(booster: Booster, trained: Trained) -> None:
    draw = np.random.default_rng(3)
    matrix = trained.matrix[:2000].copy()
    for special in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-45):
        matrix[draw.random(matrix.shape) < 0.02] = special
    assert one_by_one(booster, matrix) == booster.predict(matrix).tolist()
    assert one_by_one(booster, matrix) == np.asarray(trained.booster.predict(matrix)).tolist()


def test_threads_can_predict_one_row_while_others_explain(trained: Trained) -> None:
    fresh = Booster(trained.booster.model_to_string())
    matrix = trained.matrix[:200]
    expected = fresh.predict(matrix).tolist()
    with ThreadPoolExecutor(8) as threads:
        explained = [threads.submit(fresh.contributions, matrix[:20]) for _ in range(8)]
        results = list(threads.map(lambda _: one_by_one(fresh, matrix), range(32)))
    assert all(each == expected for each in results)
    assert all(np.array_equal(each.result(), explained[0].result()) for each in explained)


def test_model_is_kept_while_a_thread_predicts_with_it(trained: Trained) -> None:
    """Models are replaced while threads predict. A thread that holds a model can use it to the end."""
    text, row = trained.booster.model_to_string(), array("f", trained.matrix[0].tolist())
    held = [Booster(text)]
    expected, ended = held[0].predict_one(row), threading.Event()

    def replace() -> None:
        while not ended.is_set():
            held[0] = Booster(text)

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            results = set(threads.map(lambda _: held[0].predict_one(row), range(20_000)))
    finally:
        ended.set()
        replacing.join()
    assert results == {expected}


@pytest.mark.parametrize("row", [array("f", [0.0] * 17), array("f", [0.0] * 19), array("d", [0.0] * 18)])
def test_row_of_wrong_width_or_type_is_refused(booster: Booster, row: array[float]) -> None:
    with pytest.raises(BundleError, match="the model has 18 features as float32, the row"):
        booster.predict_one(row)


@pytest.mark.parametrize("rows", [0, 1, 2, 1500])
def test_contributions_are_the_same_as_in_lightgbm_and_add_up(booster: Booster, trained: Trained, rows: int) -> None:
    matrix = trained.matrix[:rows]
    results = booster.contributions(matrix)
    assert results.shape == (rows, booster.features + 1)
    assert np.allclose(results.sum(axis=1), booster.predict(matrix), rtol=0, atol=1e-9)
    if rows:
        assert np.array_equal(results, np.asarray(trained.booster.predict(matrix, pred_contrib=True)))


def test_threads_can_explain_and_predict_at_the_same_time(trained: Trained) -> None:
    matrix = trained.matrix[:10]
    expected = np.asarray(trained.booster.predict(matrix, pred_contrib=True))
    fresh = Booster(trained.booster.model_to_string())
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: (fresh.contributions(matrix), fresh.predict(matrix)), range(64)))
    assert all(np.array_equal(explained, expected) for explained, _ in results)
    assert all(np.array_equal(predicted, results[0][1]) for _, predicted in results)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300, 5e-324])
def test_special_values_are_predicted_as_in_lightgbm(booster: Booster, trained: Trained, special: float) -> None:
    matrix = trained.matrix[:50].astype(np.float64)
    matrix[np.arange(50), np.arange(50) % booster.features] = special
    matrix[0] = special
    assert np.array_equal(booster.predict(matrix), np.asarray(trained.booster.predict(matrix)))


def test_layout_and_type_of_the_matrix_do_not_matter(booster: Booster, trained: Trained) -> None:
    matrix = trained.matrix[:64]
    expected = booster.predict(matrix)
    assert np.array_equal(booster.predict(np.asfortranarray(matrix)), expected)
    assert np.array_equal(booster.predict(np.repeat(matrix, 2, axis=0)[::2]), expected)


def test_no_rows_give_no_predictions(booster: Booster) -> None:
    assert booster.predict(np.empty((0, booster.features))).shape == (0,)


def test_threads_do_not_disturb_each_other(booster: Booster, trained: Trained) -> None:
    expected = booster.predict(trained.matrix)
    parts = [slice(begin, begin + 100) for begin in range(0, 2000, 100)] * 5
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda part: booster.predict(trained.matrix[part]), parts))
    for part, predicted in zip(parts, results, strict=True):
        assert np.array_equal(predicted, expected[part])


def test_numbers_of_features_and_rounds_are_those_of_the_model(booster: Booster, trained: Trained) -> None:
    assert booster.features == trained.booster.num_feature()
    assert booster.rounds == trained.booster.current_iteration()


@pytest.mark.parametrize("shape", [(3, 1), (3, 19), (18,)])
def test_matrix_of_wrong_width_is_refused(booster: Booster, shape: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match=r"the model has 18 features, the matrix has shape"):
        booster.predict(np.zeros(shape))


def test_text_that_is_not_a_model_is_refused() -> None:
    with pytest.raises(BundleError, match="LightGBM refused"):
        Booster("not a model")
