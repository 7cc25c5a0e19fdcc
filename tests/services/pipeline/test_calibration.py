"""Ranges hold the share of prices that they promise, for whole listings and for those of which little is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from core.bundle import Bundle, load_bundle
from core.features import RAW_SCHEMA
from core.ranges import GROUPS, LEVEL
from datasource import synthetic
from pipeline.calibration import _BIN_ROWS, _LEAST_ROWS, bins, calibrate, measured
from pipeline.encoded import Part
from pipeline.rows import Split
from pipeline.rules import valid_rows
from pipeline.scores import coverage
from pipeline.settings import PipelineSettings
from pipeline.split import split
from pipeline.train import Data, learn

from .chance import surely

SETTINGS = PipelineSettings.model_construct(num_threads=1, num_boost_round=100, learning_rate=0.2)


@pytest.fixture(scope="module")
def parts() -> dict[Split, pl.DataFrame]:
    return split(valid_rows(pl.concat([synthetic.generate(number, seed=7, scale=0.02)[0] for number in (1, 2, 4)])))


@pytest.fixture(scope="module")
def bundle(parts: dict[Split, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    learn(Data.of(dict(parts)), SETTINGS, folder)
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
def test_share_within_the_range_is_as_promised_whatever_is_known(
    parts: dict[Split, pl.DataFrame], bundle: Bundle, unknown: tuple[str, ...]
) -> None:
    found = bundle.estimate(without(parts["test"], *unknown))
    share = coverage(parts["test"]["price"].to_numpy(), found)["coverage"]
    assert surely(share, parts["test"].height, parts["validation"].height), share


def test_less_known_is_a_wider_range(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    def width(*unknown: str) -> float:
        found = bundle.estimate(without(parts["test"], *unknown))
        assert found.low is not None
        assert found.high is not None
        return float(((found.high - found.low) / found.prices).mean())

    places = [width(), width("zip_code"), width("zip_code", "city"), width("zip_code", "city", "state")]
    assert places == sorted(places)
    assert places[-1] > 2 * places[0]
    assert places[0] < width("house_size") < width("house_size", "bed", "bath")
    assert places[0] < width("prev_sold_date")


@pytest.mark.parametrize("rows", [_LEAST_ROWS, 10, 499, 1000, 4000])
def test_tails_are_a_tenth_of_one_row_more_than_there_are(rows: int) -> None:
    predicted = np.full(rows, 100.0)
    paid = np.random.default_rng(1).permutation(np.linspace(50, 150, rows))
    found = bins(predicted, paid)
    assert found.edges == []
    below, above = (paid < 100 * found.low[0] - 1e-3).sum(), (paid > 100 * found.high[0] + 1e-3).sum()
    assert below == above == int((rows + 1) / 10) - 1
    assert 1 - (below + above + 2) / (rows + 1) >= LEVEL - 1e-9


def test_bins_hold_rows_enough_and_each_has_its_own_factors() -> None:
    draw = np.random.default_rng(1)
    predicted = np.exp(draw.normal(12, 0.5, 30_000))
    spread = np.where(predicted < 150_000, 0.5, 0.1)
    found = bins(predicted, predicted * np.exp(spread * draw.normal(size=len(predicted))))
    counts = np.bincount(np.searchsorted(found.edges, predicted, side="right"))
    assert len(counts) == len(found.low) == 20
    assert counts.min() >= _BIN_ROWS
    normal = 1.2816  # of a standard normal variable, a tenth lies above
    assert found.high[0] == pytest.approx(np.exp(0.5 * normal), rel=0.05)
    assert found.high[-1] == pytest.approx(np.exp(0.1 * normal), rel=0.05)
    assert found.low[0] == pytest.approx(np.exp(-0.5 * normal), rel=0.05)


def test_price_lies_within_its_range_even_where_the_model_is_always_wrong() -> None:
    found = bins(np.full(100, 1000.0), np.linspace(3000, 4000, 100))
    assert found.low == [1.0]
    assert found.high[0] > 3
    assert bins(np.full(100, 1000.0), np.linspace(300, 400, 100)).high == [1.0]


def test_few_rows_tell_nothing(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    def of(rows: pl.DataFrame) -> object:
        return calibrate(bundle.booster, bundle.encodings, measured([Part.of(rows)]))

    assert of(parts["validation"].head(_LEAST_ROWS - 1)) is None
    assert of(parts["validation"].head(_LEAST_ROWS)) is not None


def test_group_without_rows_is_as_the_next_one_that_less_is_known_of(
    parts: dict[Split, pl.DataFrame], bundle: Bundle
) -> None:
    unseen = parts["validation"].with_columns(zip_code=99_998.0)
    found = calibrate(bundle.booster, bundle.encodings, measured([Part.of(unseen)]))
    assert found is not None
    assert len(found.groups) == GROUPS
    assert found.groups[3] == found.groups[2] != found.groups[1]
    nothing = calibrate(bundle.booster, bundle.encodings, measured([Part.of(without(unseen, "house_size"))]))
    assert nothing is not None
    sized, unsized = nothing.groups[7::8], nothing.groups[3::8]
    assert sized == unsized
    assert unsized == nothing.groups[2::8] != nothing.groups[1::8]


def test_batches_are_measured_together(parts: dict[Split, pl.DataFrame], bundle: Bundle) -> None:
    validation = parts["validation"]
    together = calibrate(bundle.booster, bundle.encodings, measured([Part.of(validation)]))
    apart = [Part.of(validation[:1000]), Part.of(validation[1000:])]
    assert calibrate(bundle.booster, bundle.encodings, measured(apart)) == together == bundle.ranges
