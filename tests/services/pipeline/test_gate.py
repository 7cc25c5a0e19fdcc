"""The promotion gate: its verdict and sentence, and properties that hold for any errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.evaluation.gate import gain_interval, guarded_segments, judge, row_blocks
from pipeline.evaluation.scores import score
from pipeline.settings import PipelineSettings

KNOWN = PipelineSettings(
    data_api_url="http://127.0.0.1:9",
    data_uri="file:///nowhere",
    ledger_dsn="postgresql://127.0.0.1:9/ledger",
    mlflow_tracking_uri="http://127.0.0.1:9",
    min_segment_rows=50,
)
ROWS = 400
Changes = dict[str, Any]


def evaluation(mae: float, rmse: float, **changes: Any) -> dict[str, Any]:
    """A challenger with these errors against a champion with MAE 100 and RMSE 200, with a narrow interval."""
    gain = 1 - mae / 100
    return {
        "rows": 1500,
        "challenger": {"mae": mae, "rmse": rmse, "r2": 0.9, "mape": 0.1},
        "champion": {"mae": 100.0, "rmse": 200.0},
        "champion_version": "1",
        "champion_unusable": None,
        "interval": {"gain": gain, "low": gain - 0.01, "high": gain + 0.01, "confidence": 0.95, "blocks": 300},
        "guarded_segments": [],
    } | changes


def segment(name: str, rows: int, champion: float, challenger: float) -> dict[str, Any]:
    return {"segment": name, "rows": rows, "champion_mae": champion, "challenger_mae": challenger}


UNSURE = {"interval": {"gain": 0.04, "low": -0.002, "high": 0.09, "confidence": 0.9, "blocks": 9}}
WORSE = {
    "guarded_segments": [
        segment("state Utah", 500, 100, 109),
        segment("state Ohio", 500, 100, 125),
        segment("status sold", 500, 100, 140),
        segment("state Iowa", 49, 100, 900),
    ]
}


@pytest.mark.parametrize(
    ("mae", "rmse", "changes", "wins", "message"),
    [
        pytest.param(*case, id=name)
        for name, *case in [
            (
                "better", 96.0, 200.0, {}, True,
                "MAE $96 against $100 (-4.0%, 95% interval -5.0% to -3.0%), RMSE $200 against $200 (+0.0%)",
            ),
            ("hardly better", 97.1, 150.0, {}, False, "; but the MAE must be at least 3% better"),
            ("RMSE at its limit", 90.0, 201.9, {}, True, "RMSE $202 against $200 (+1.0%)"),
            ("RMSE over it", 90.0, 202.1, {}, False, "; but the RMSE may be at most 1% worse"),
            ("by chance", 96.0, 200.0, UNSURE, False,
             "; but the lower end of the interval of the gain must be above 0%"),
            ("segments", 90.0, 190.0, WORSE, False,
             "; but no segment of 50 rows may be more than 10% worse: status sold (+40%), state Ohio (+25%) are"),
            ("all", 100.0, 210.0, UNSURE | WORSE, False,
             "must be above 0% and the RMSE may be at most 1% worse and no segment of 50 rows"),
            ("first", 100.0, 200.0, {"champion": None}, True, "it is the first model: MAE $100 on 1,500 rows"),
            ("champion that cannot serve", 100.0, 200.0, {"champion": None, "champion_unusable": "it is broken"}, True,
             "the champion cannot serve: it is broken"),
        ]
    ],
)  # fmt: skip
def test_verdict_and_reason(mae: float, rmse: float, changes: Changes, wins: bool, message: str) -> None:
    result = judge(evaluation(mae, rmse, **changes), KNOWN)
    assert result[0] is wins
    assert message in result[1]


@pytest.mark.parametrize("changes", [{}, {"champion": None}], ids=["champion", "first"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_challenger_without_finite_scores_never_wins(value: float, changes: Changes) -> None:
    assert not judge(evaluation(value, 1, **changes), KNOWN)[0]
    assert not judge(evaluation(1, value, **changes), KNOWN)[0]


def test_thresholds_are_settings() -> None:
    easy = KNOWN.model_copy(
        update={"min_mae_gain": 0.0, "min_sure_gain": 0.0, "max_rmse_loss": 0.5, "max_segment_loss": 9.0}
    )
    assert judge(evaluation(99.0, 299.0, **WORSE) | {"interval": UNSURE["interval"] | {"low": 0.001}}, easy)[0]


def judged(champion: np.ndarray, challenger: np.ndarray, settings: PipelineSettings = KNOWN) -> bool:
    """The verdict on two models from their errors in dollars, on 400 rows of two states."""
    actual = np.full(ROWS, 1_000_000.0)
    listings = pl.DataFrame({"status": ["sold"] * ROWS, "state": ["Utah", "Ohio"] * (ROWS // 2)})
    pair = np.abs(champion), np.abs(challenger)
    seen = {
        "rows": ROWS,
        "challenger": score(actual, actual + challenger),
        "champion": score(actual, actual + champion),
        "champion_unusable": None,
        "interval": gain_interval(*pair, np.arange(ROWS) // 4, settings.gain_confidence, 7),
        "guarded_segments": guarded_segments(listings, actual + champion, *pair),
    }
    return judge(seen, settings)[0]


@given(some.integers(0, 2**32 - 1), some.floats(0.5, 1.3), some.floats(0, 1))
def test_better_challenger_wins_if_a_worse_one_wins(seed: int, level: float, better: float) -> None:
    rng = np.random.default_rng(seed)
    champion = rng.normal(0, 1000, ROWS)
    worse = champion * level * rng.lognormal(0, 0.3, ROWS)
    shrunk = worse * np.where(rng.random(ROWS) < 0.5, better, 1.0)  # no error is larger
    if judged(champion, worse):
        assert judged(champion, shrunk)


@given(some.integers(0, 2**32 - 1), some.floats(0.01, 1e4))
def test_interval_does_not_depend_on_currency_or_row_order(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    champion, challenger = rng.normal(0, 1000, ROWS), rng.normal(0, 850, ROWS)
    blocks = np.arange(ROWS) // 4
    pair = np.abs(champion), np.abs(challenger)
    interval = gain_interval(*pair, blocks, 0.95, 7)
    in_currency = gain_interval(pair[0] * rate, pair[1] * rate, blocks, 0.95, 7)
    order = rng.permutation(ROWS)
    shuffled = gain_interval(pair[0][order], pair[1][order], blocks[order], 0.95, 7)
    assert in_currency == pytest.approx(interval)
    assert shuffled == pytest.approx(interval)


@given(some.integers(0, 2**32 - 1))
def test_champion_is_never_replaced_by_itself(seed: int) -> None:
    easy = KNOWN.model_copy(update={"min_mae_gain": 0.0})
    champion = np.random.default_rng(seed).normal(0, 1000, ROWS)
    assert not judged(champion, champion, easy)


def test_stricter_settings_never_promote_more() -> None:
    rng = np.random.default_rng(3)
    champion = rng.normal(0, 1000, ROWS)
    strict = {"min_mae_gain": 0.2, "min_sure_gain": 0.1, "max_rmse_loss": 0.0, "max_segment_loss": 0.0}
    for level in np.linspace(0.6, 1.1, 40):
        challenger = champion * level * rng.lognormal(0, 0.2, ROWS)
        for name, value in strict.items():
            stricter = KNOWN.model_copy(update={name: value, "gain_confidence": 0.999})
            assert judged(champion, challenger) >= judged(champion, challenger, stricter)


def test_interval_contains_the_true_gain_as_often_as_its_level() -> None:
    """60 blocks of 10 rows with correlated errors; the true gain is 10 %."""
    held, narrow = 0, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        luck = np.repeat(rng.lognormal(0, 0.5, (60, 2)), 10, axis=0)
        champion, challenger = (rng.lognormal(0, 0.2, (600, 2)) * luck * [100, 90]).T
        blocks = np.repeat(np.arange(60), 10)
        result = gain_interval(champion, challenger, blocks, 0.9, seed)
        by_row = gain_interval(champion, challenger, np.arange(600), 0.9, seed)
        held += result["low"] <= 0.1 <= result["high"]
        narrow += by_row["low"] <= 0.1 <= by_row["high"]
    assert 98 <= held <= 118, f"a 90 % interval contained the true gain in {held} of 120 cases"
    assert narrow < 80, f"row by row it contained the true gain in {narrow} of 120 cases"


def test_noise_does_not_promote() -> None:
    """Two equally good models, and a gate that only needs a significant gain."""
    easy = KNOWN.model_copy(update={"min_mae_gain": 0.0, "max_rmse_loss": 1.0, "max_segment_loss": 1.0})
    won = sum(
        judged(rng.normal(0, 1000, ROWS), rng.normal(0, 1000, ROWS), easy)
        for rng in map(np.random.default_rng, range(200))
    )
    assert won <= 12, f"{won} of 200 won by chance, and 5 are expected"


def test_rows_without_a_zip_code_are_their_own_block() -> None:
    blocks = row_blocks(np.array([1001.0, np.nan, 1001.0, np.nan, 2002.0]))
    assert blocks[0] == blocks[2]
    assert len(set(blocks.tolist())) == 4


@pytest.mark.parametrize(("champion", "challenger", "gain"), [(0.0, 0.0, 0.0), (0.0, 1.0, -math.inf), (2.0, 1.0, 0.5)])
def test_champion_without_errors_cannot_be_beaten(champion: float, challenger: float, gain: float) -> None:
    rows = np.ones(50)
    result = gain_interval(rows * champion, rows * challenger, np.arange(50), 0.95, 1)
    assert (result["low"], result["gain"], result["high"]) == (gain, gain, gain)


def test_segments_use_values_known_at_prediction_time() -> None:
    listings = pl.DataFrame({"status": ["sold", "sold", None], "state": ["Utah", "Ohio", "Ohio"]})
    result = guarded_segments(
        listings, np.array([50_000.0, 250_000.0, 2e6]), np.array([1.0, 3.0, 5.0]), np.array([2.0, 2.0, 2.0])
    )
    assert {part["segment"]: (part["rows"], part["champion_mae"], part["challenger_mae"]) for part in result} == {
        "status sold": (2, 2.0, 2.0),
        "state Ohio": (2, 4.0, 2.0),
        "state Utah": (1, 1.0, 2.0),
        "priced 0 to 100,000": (1, 1.0, 2.0),
        "priced 200,000 to 300,000": (1, 3.0, 2.0),
        "priced from 1,000,000": (1, 5.0, 2.0),
    }
