"""The record of an evaluation, as it is stored in `evaluation.json`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

Scores = dict[str, float]  # rmse, mae, r2, mape; coverage and width if the model has prediction intervals
SegmentScores = dict[str, float]  # as `Scores`, with `rows`


class GainInterval(TypedDict):
    """Confidence interval of the challenger's gain in MAE, as fractions of the champion's MAE."""

    gain: float
    low: float
    high: float
    confidence: float
    blocks: int


class GuardedSegment(TypedDict):
    """MAE of both models, in dollars, on a segment that must not become much worse."""

    segment: str
    rows: int
    champion_mae: float
    challenger_mae: float


class Evaluation(TypedDict):
    """Both models on one holdout. Without a champion that can serve, its fields are None, or absent."""

    batches: list[int]
    rows: int
    challenger: Scores
    challenger_segments: dict[str, SegmentScores]
    champion: Scores | None
    champion_version: str | None
    champion_segments: dict[str, SegmentScores] | None
    champion_unusable: str | None  # why the champion cannot serve with this release
    interval: NotRequired[GainInterval]
    guarded_segments: NotRequired[list[GuardedSegment]]
    promoted: NotRequired[bool]  # the verdict of the gate
    reason: NotRequired[str]
