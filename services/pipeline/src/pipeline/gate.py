"""The gate between challenger and champion: the rule, and how sure the difference of their errors is.

Nothing here reads or writes: evaluate computes with it, and writes the verdict down.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from pipeline.scores import PRICE_BANDS, band_name
from pipeline.settings import PipelineSettings

_DRAWS = 1_000
_MOST_BLOCKS = 4_096  # more of them do not change the interval, only its cost
_NAMED_SEGMENTS = 3  # in a reason; all are in the evaluation


def gain_interval(
    champion: np.ndarray, challenger: np.ndarray, blocks: np.ndarray, confidence: float, seed: int
) -> dict[str, Any]:
    """Confidence interval of the challenger's gain: how much smaller its MAE is, as a fraction of the champion's.

    A Poisson bootstrap whose units are blocks, not rows: listings of one zip code share what a model does not know,
    so drawing them one by one would pass for more evidence than they are (Field and Welsh 2007, cluster bootstrap).
    Both models are weighted by the same draws, so that what is hard for both cancels out.

    Args:
        champion: absolute errors, (rows,).
        challenger: absolute errors of the same rows.
        blocks: what each row is drawn together with, integers (rows,).
        confidence: of the two-sided interval, as 0.95.
        seed: the same seed, the same interval.
    """
    _, block = np.unique(blocks, return_inverse=True)
    block = block % _MOST_BLOCKS
    sums = np.column_stack([np.bincount(block, errors) for errors in (champion, challenger)])
    weights = np.random.default_rng(seed).poisson(1.0, (_DRAWS, len(sums))).astype(np.float64)
    drawn = _gains(*(weights @ sums).T)
    tail = (1 - confidence) / 2
    # an order statistic, not an interpolation between two: one of them may be infinite
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf")
    return {
        "gain": _gain(float(champion.sum()), float(challenger.sum())),
        "low": float(low),
        "high": float(high),
        "confidence": confidence,
        "blocks": len(sums),
    }


def row_blocks(zip_codes: np.ndarray) -> np.ndarray:
    """A block per row: its zip code; a row without one is a block of its own."""
    known = np.isfinite(zip_codes)
    _, codes = np.unique(zip_codes[known], return_inverse=True)
    blocks = np.arange(len(zip_codes)) + len(codes)
    blocks[known] = codes
    return blocks


def judge(evaluation: dict[str, Any], settings: PipelineSettings) -> tuple[bool, str]:
    """Whether the challenger wins, and why, with the figures.

    It wins if, on the common holdout, its MAE is at least `min_mae_gain` better than the champion's and even the lower
    end of the interval of that gain is above `min_sure_gain`; its RMSE is at most `max_rmse_loss` worse; and its MAE is
    at most `max_segment_loss` worse on every segment of at least `min_segment_rows` rows. It wins too if there is no
    champion that could serve.
    """
    challenger, champion = evaluation["challenger"], evaluation["champion"]
    if not all(math.isfinite(value) for value in challenger.values()):
        return False, f"its scores are not finite: {challenger}"
    if champion is None:
        if evaluation["champion_unusable"]:
            return True, f"the champion cannot serve: {evaluation['champion_unusable']}"
        return True, f"it is the first model: MAE ${challenger['mae']:,.0f} on {evaluation['rows']:,} rows"
    sure = evaluation["interval"]
    gain, loss = _gain(champion["mae"], challenger["mae"]), 0 - _gain(champion["rmse"], challenger["rmse"])
    figures = (
        f"MAE ${challenger['mae']:,.0f} against ${champion['mae']:,.0f} ({-gain:+.1%}, "
        f"{sure['confidence']:.0%} interval {-sure['high']:+.1%} to {-sure['low']:+.1%}), "
        f"RMSE ${challenger['rmse']:,.0f} against ${champion['rmse']:,.0f} ({loss:+.1%})"
    )
    against = []
    if gain < settings.min_mae_gain:
        against.append(f"the MAE must be at least {settings.min_mae_gain:.0%} better")
    if sure["low"] <= settings.min_sure_gain:
        against.append(f"the gain must be surely above {settings.min_sure_gain:.0%}, not only by chance")
    if loss > settings.max_rmse_loss:
        against.append(f"the RMSE may be at most {settings.max_rmse_loss:.0%} worse")
    worse = worse_segments(evaluation, settings)
    if worse:
        told = ", ".join(f"{name} ({by:+.0%})" for name, by in worse[:_NAMED_SEGMENTS])
        more = f" and {len(worse) - _NAMED_SEGMENTS} more" if len(worse) > _NAMED_SEGMENTS else ""
        against.append(
            f"no segment of {settings.min_segment_rows:,} rows may be more than {settings.max_segment_loss:.0%} worse, "
            f"as {told}{more} {'are' if len(worse) > 1 else 'is'}"
        )
    return not against, figures + (f"; but {' and '.join(against)}" if against else "")


def guarded_segments(
    listings: pl.DataFrame, champion: np.ndarray, champion_error: np.ndarray, challenger_error: np.ndarray
) -> list[dict[str, Any]]:
    """MAE of both models per status, per state and per price band: the segments that may not become much worse.

    The bands are of the price that the champion gives, not of the price that was paid. Who knows nothing but that all
    prices lie under $300,000 is good on the houses that cost less and hopeless on the others, and every model that
    learns of the others looks worse where it was good by ignorance: a model is to be judged on what was known when it
    was asked (Lerch et al. 2017, forecaster's dilemma). Bands of the paid price are in the evaluation, for people.

    Args:
        listings: the holdout, with `status` and `state`.
        champion: prices in dollars that the champion gives, (rows,).
        champion_error: its absolute errors.
        challenger_error: the challenger's.
    """
    bands = np.array([band_name(*ends) for ends in pairwise(PRICE_BANDS)])
    frame = listings.select("status", "state").with_columns(
        priced=bands[np.searchsorted(PRICE_BANDS[1:-1], champion, side="right")],
        champion_mae=champion_error,
        challenger_mae=challenger_error,
    )
    found = []
    for kind in ("status", "state", "priced"):
        parts = frame.group_by(kind).agg(pl.len().alias("rows"), pl.col("champion_mae", "challenger_mae").mean())
        found += [
            {"segment": f"{kind} {name}", **rest}
            for name, *values in parts.drop_nulls(kind).sort(kind).iter_rows()
            if (rest := dict(zip(("rows", "champion_mae", "challenger_mae"), values, strict=True)))
        ]
    return found


def worse_segments(evaluation: dict[str, Any], settings: PipelineSettings) -> list[tuple[str, float]]:
    """The segments on which the challenger is worse than may be, and by how much of the MAE; the worst first."""
    losses = [
        (part["segment"], -_gain(part["champion_mae"], part["challenger_mae"]))
        for part in evaluation["guarded_segments"]
        if part["rows"] >= settings.min_segment_rows
    ]
    return sorted(
        ((name, loss) for name, loss in losses if loss > settings.max_segment_loss), key=lambda named: -named[1]
    )


def _gain(before: float, after: float) -> float:
    """How much smaller an error is than the one before, as a fraction of it."""
    return float(_gains(np.array([before]), np.array([after]))[0])


def _gains(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    nothing = np.where(after > 0, -math.inf, 0.0)  # an error of nothing cannot become smaller
    gains: np.ndarray = np.divide(before - after, before, out=nothing, where=before > 0)
    return gains
