"""Compares a measured coverage with the nominal level, within chance."""

from __future__ import annotations

import math

from core.model.intervals import LEVEL

_DEVIATIONS = 4.0  # standard deviations; chance exceeds them in one case of 16,000


def within_chance(share: float, rows: int, measured: int, slack: float = 0.0) -> bool:
    """Whether a measured coverage equals the nominal level within chance.

    Both the test rows and the calibration rows are samples of houses.

    Args:
        share: share of the test rows within their interval.
        rows: number of test rows; binomial, given the true coverage.
        measured: number of calibration rows, which determine the true coverage (beta-binomial, Vovk 2012).
        slack: tolerance in addition to chance.
    """
    deviation = math.sqrt(LEVEL * (1 - LEVEL) * (1 / rows + 1 / measured))
    return abs(share - LEVEL) <= _DEVIATIONS * deviation + 1 / rows + slack
