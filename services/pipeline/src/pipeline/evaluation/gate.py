"""The promotion gate: the rule that decides between challenger and champion, and its statistics.

Pure: stage evaluate reads the inputs and writes the verdict.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl

from pipeline.evaluation.record import Evaluation, GainInterval, GuardedSegment
from pipeline.evaluation.scores import PRICE_BANDS, band_name
from pipeline.settings import PipelineSettings

_DRAWS = 1_000
_MAX_BLOCKS = 4_096  # more blocks increase the cost, and do not change the interval
_MAX_NAMED_SEGMENTS = 3  # in a reason; all are in the evaluation


def gain_interval(
    champion: np.ndarray, challenger: np.ndarray, blocks: np.ndarray, confidence: float, seed: int
) -> GainInterval:
    """Confidence interval of the challenger's gain: how much smaller its MAE is, as a fraction of the champion's.

    A Poisson bootstrap that draws blocks, not rows. Errors of listings in one zip code are correlated, so drawing
    single rows would overstate the evidence (Field and Welsh 2007, cluster bootstrap). Both models are weighted by the
    same draws, so that rows that are hard for both cancel out.

    Args:
        champion: absolute errors of the champion, (rows,).
        challenger: absolute errors of the challenger on the same rows.
        blocks: block of each row, integers (rows,); the rows of a block are drawn together.
        confidence: level of the two-sided interval. Example: 0.95.
        seed: the same seed gives the same interval.
    """
    _, block = np.unique(blocks, return_inverse=True)
    block = block % _MAX_BLOCKS
    sums = np.column_stack([np.bincount(block, errors) for errors in (champion, challenger)])
    weights = np.random.default_rng(seed).poisson(1.0, (_DRAWS, len(sums))).astype(np.float64)
    drawn = _gains(*(weights @ sums).T)
    tail = (1 - confidence) / 2
    # An order statistic, because interpolation fails if a value is infinite.
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return {
        "gain": _gain(float(champion.sum()), float(challenger.sum())),
        "low": float(low),
        "high": float(high),
        "confidence": confidence,
        "blocks": len(sums),
    }


def row_blocks(zip_codes: np.ndarray) -> np.ndarray:
    """Block of each row: its zip code. A row without a zip code is its own block."""
    has_zip_code = np.isfinite(zip_codes)
    _, codes = np.unique(zip_codes[has_zip_code], return_inverse=True)
    blocks = np.arange(len(zip_codes)) + len(codes)
    blocks[has_zip_code] = codes
    return blocks


def judge(evaluation: Evaluation, settings: PipelineSettings) -> tuple[bool, str]:
    """Decide whether the challenger wins, with the reason in figures.

    The challenger wins if there is no champion that can serve, or if all of this holds on the common holdout:

    - its MAE is at least `min_mae_gain` better than the champion's;
    - the lower end of the interval of that gain is above `min_sure_gain`;
    - its RMSE is at most `max_rmse_loss` worse;
    - its MAE is at most `max_segment_loss` worse on every segment of at least `min_segment_rows` rows.
    """
    challenger, champion = evaluation["challenger"], evaluation["champion"]
    if not all(math.isfinite(value) for value in challenger.values()):
        return False, f"its scores are not finite: {challenger}"
    if champion is None:
        if evaluation["champion_unusable"]:
            return True, f"the champion cannot serve: {evaluation['champion_unusable']}"
        return True, f"it is the first model: MAE ${challenger['mae']:,.0f} on {evaluation['rows']:,} rows"
    interval = evaluation["interval"]
    gain, loss = _gain(champion["mae"], challenger["mae"]), 0 - _gain(champion["rmse"], challenger["rmse"])
    figures = (
        f"MAE ${challenger['mae']:,.0f} against ${champion['mae']:,.0f} ({-gain:+.1%}, "
        f"{interval['confidence']:.0%} interval {-interval['high']:+.1%} to {-interval['low']:+.1%}), "
        f"RMSE ${challenger['rmse']:,.0f} against ${champion['rmse']:,.0f} ({loss:+.1%})"
    )
    objections = []
    if gain < settings.min_mae_gain:
        objections.append(f"the MAE must be at least {settings.min_mae_gain:.0%} better")
    if interval["low"] <= settings.min_sure_gain:
        objections.append(f"the lower end of the interval of the gain must be above {settings.min_sure_gain:.0%}")
    if loss > settings.max_rmse_loss:
        objections.append(f"the RMSE may be at most {settings.max_rmse_loss:.0%} worse")
    worse = worse_segments(evaluation, settings)
    if worse:
        named = ", ".join(f"{name} ({by:+.0%})" for name, by in worse[:_MAX_NAMED_SEGMENTS])
        more = f" and {len(worse) - _MAX_NAMED_SEGMENTS} more" if len(worse) > _MAX_NAMED_SEGMENTS else ""
        objections.append(
            f"no segment of {settings.min_segment_rows:,} rows may be more than {settings.max_segment_loss:.0%} worse: "
            f"{named}{more} {'are' if len(worse) > 1 else 'is'}"
        )
    return not objections, figures + (f"; but {' and '.join(objections)}" if objections else "")


def guarded_segments(
    listings: pl.DataFrame, champion: np.ndarray, champion_error: np.ndarray, challenger_error: np.ndarray
) -> list[GuardedSegment]:
    """MAE of both models per status, per state and per price band: the segments that must not become much worse.

    The bands are of the champion's price, not of the actual price. A champion that has seen no price above $300,000 is
    good on cheaper houses and useless on the others, and every challenger that learns about expensive houses looks
    worse on the cheap ones. So models are compared on groups that were known at prediction time (Lerch et al. 2017,
    forecaster's dilemma). Bands of the actual price are in the evaluation, for people.

    Args:
        listings: the holdout, with `status` and `state`.
        champion: the champion's prices in dollars, (rows,).
        champion_error: absolute errors of the champion, (rows,).
        challenger_error: absolute errors of the challenger, (rows,).
    """
    bands = np.array([band_name(*ends) for ends in pairwise(PRICE_BANDS)])
    frame = listings.select("status", "state").with_columns(
        priced=bands[np.searchsorted(PRICE_BANDS[1:-1], champion, side="right")],
        champion_mae=champion_error,
        challenger_mae=challenger_error,
    )
    result: list[GuardedSegment] = []
    for kind in ("status", "state", "priced"):
        parts = frame.group_by(kind).agg(pl.len().alias("rows"), pl.col("champion_mae", "challenger_mae").mean())
        result += [
            {"segment": f"{kind} {name}", "rows": rows, "champion_mae": champion_mae, "challenger_mae": challenger_mae}
            for name, rows, champion_mae, challenger_mae in parts.drop_nulls(kind).sort(kind).iter_rows()
        ]
    return result


def worse_segments(evaluation: Evaluation, settings: PipelineSettings) -> list[tuple[str, float]]:
    """Segments on which the challenger is too much worse, with the relative increase of the MAE; worst first."""
    losses = [
        (part["segment"], -_gain(part["champion_mae"], part["challenger_mae"]))
        for part in evaluation["guarded_segments"]
        if part["rows"] >= settings.min_segment_rows
    ]
    return sorted(
        ((name, loss) for name, loss in losses if loss > settings.max_segment_loss), key=lambda named: -named[1]
    )


def _gain(before: float, after: float) -> float:
    """How much smaller the error `after` is than `before`, as a fraction of `before`."""
    return float(_gains(np.array([before]), np.array([after]))[0])


def _gains(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    nothing = np.where(after > 0, -math.inf, 0.0)  # an error of 0 cannot become smaller
    gains: np.ndarray = np.divide(before - after, before, out=nothing, where=before > 0)
    return gains
