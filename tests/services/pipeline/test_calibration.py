"""Prediction intervals have their nominal coverage, for complete listings and for listings with few fields."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.listing.schema import RAW_SCHEMA
from core.model.bundle import Bundle, load_bundle
from core.model.intervals import GROUPS, LEVEL
from datasource import synthetic
from pipeline.evaluation.scores import coverage
from pipeline.rows import Deferred, Split
from pipeline.settings import PipelineSettings
from pipeline.training.calibration import _MIN_BIN_ROWS, _MIN_ROWS, calibrate, calibration_rows, fit_bins
from pipeline.training.encoded import Part
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows

from .chance import within_chance

SETTINGS = PipelineSettings.model_construct(num_threads=1, num_boost_round=100, learning_rate=0.2)


@pytest.fixture(scope="module")
def parts() -> dict[Split, pl.DataFrame]:
    return split(valid_rows(pl.concat([synthetic.generate(number, seed=7, scale=0.02)[0] for number in (1, 2, 4)])))


@pytest.fixture(scope="module")
def bundle(parts: dict[Split, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    train_model(TrainingData.of(dict(parts)), SETTINGS, folder)
    return load_bundle(folder)


def without(listings: pl.DataFrame, *unknown: str) -> pl.DataFrame:
    return listings.with_columns(pl.lit(None, RAW_SCHEMA[name]).alias(name) for name in unknown)


@pytest.mark.parametrize(
    "unknown",
    [
        (),
        ("zip_code",),
        ("zip_code", "city"),
        ("zip_code", "city", "state"),
        ("house_size",),
        ("zip_code", "house_size"),
        ("zip_code", "city", "state", "house_size"),
        ("bed",),
        ("bath",),
        ("bed", "bath"),
        ("acre_lot",),
        ("prev_sold_date",),
        ("city", "state"),
        ("status",),
        ("brokered_by", "status"),
        ("acre_lot", "prev_sold_date"),
        ("house_size", "bed", "bath"),
        ("zip_code", "acre_lot"),
    ],
    ids="+".join,
)
def test_coverage_is_nominal_for_any_missing_fields(
    parts: dict[Split, pl.DataFrame], bundle: Bundle, unknown: tuple[str, ...]
) -> None:
    result = bundle.estimate(without(parts["test"], *unknown))
    share = coverage(parts["test"]["price"].to_numpy(), result)["coverage"]
    assert within_chance(share, parts["test"].height, parts["validation"].height), share


def test_missing_fields_widen_the_interval(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    def width(*unknown: str) -> float:
        result = bundle.estimate(without(parts["test"], *unknown))
        assert result.low is not None
        assert result.high is not None
        return float(((result.high - result.low) / result.prices).mean())

    places = [width(), width("zip_code"), width("zip_code", "city"), width("zip_code", "city", "state")]
    assert places == sorted(places)
    assert places[-1] > 2 * places[0]
    assert places[0] < width("house_size") < width("house_size", "bed", "bath")
    assert places[0] < width("prev_sold_date")


@pytest.mark.parametrize("rows", [_MIN_ROWS, 10, 499, 1000, 4000])
def test_each_tail_is_a_tenth_of_the_rows_plus_one(rows: int) -> None:
    predicted = np.full(rows, 100.0)
    paid = np.random.default_rng(1).permutation(np.linspace(50, 150, rows))
    result = fit_bins(predicted, paid)
    assert result.edges == []
    below, above = (paid < 100 * result.low[0] - 1e-3).sum(), (paid > 100 * result.high[0] + 1e-3).sum()
    assert below == above == int((rows + 1) / 10) - 1
    assert 1 - (below + above + 2) / (rows + 1) >= LEVEL - 1e-9


def test_bins_have_enough_rows_and_their_own_factors() -> None:
    draw = np.random.default_rng(1)
    predicted = np.exp(draw.normal(12, 0.5, 30_000))
    spread = np.where(predicted < 150_000, 0.5, 0.1)
    result = fit_bins(predicted, predicted * np.exp(spread * draw.normal(size=len(predicted))))
    counts = np.bincount(np.searchsorted(result.edges, predicted, side="right"))
    assert len(counts) == len(result.low) == 20
    assert counts.min() >= _MIN_BIN_ROWS
    normal = 1.2816  # 90 % quantile of the standard normal distribution
    assert result.high[0] == pytest.approx(np.exp(0.5 * normal), rel=0.05)
    assert result.high[-1] == pytest.approx(np.exp(0.1 * normal), rel=0.05)
    assert result.low[0] == pytest.approx(np.exp(-0.5 * normal), rel=0.05)


def test_price_is_within_its_interval_even_if_the_model_is_always_wrong() -> None:
    result = fit_bins(np.full(100, 1000.0), np.linspace(3000, 4000, 100))
    assert result.low == [1.0]
    assert result.high[0] > 3
    assert fit_bins(np.full(100, 1000.0), np.linspace(300, 400, 100)).high == [1.0]


def test_too_few_rows_give_no_intervals(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    def of(rows: pl.DataFrame) -> object:
        return calibrate(bundle.booster, bundle.encodings, [Part.of(rows)])

    assert of(parts["validation"].head(_MIN_ROWS - 1)) is None
    assert of(parts["validation"].head(_MIN_ROWS)) is not None


def test_group_without_rows_uses_the_group_with_fewer_fields(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    unseen = parts["validation"].with_columns(zip_code=99_998.0)
    result = calibrate(bundle.booster, bundle.encodings, [Part.of(unseen)])
    assert result is not None
    assert len(result.groups) == GROUPS
    assert result.groups[3] == result.groups[2] != result.groups[1]
    nothing = calibrate(bundle.booster, bundle.encodings, [Part.of(without(unseen, "house_size"))])
    assert nothing is not None
    sized, unsized = nothing.groups[7::8], nothing.groups[3::8]
    assert sized == unsized
    assert unsized == nothing.groups[2::8] != nothing.groups[1::8]


def test_batches_are_calibrated_together(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    validation = parts["validation"]
    together = calibrate(bundle.booster, bundle.encodings, [Part.of(validation)])
    apart = [Deferred.of(Part.of(rows)) for rows in (validation[:1000], validation[1000:])]
    assert calibrate(bundle.booster, bundle.encodings, calibration_rows(apart)) == together == bundle.intervals
