"""How far a measured coverage may be away from the promised one by chance."""

from __future__ import annotations

import math

from core.ranges import LEVEL

_DEVIATIONS = 4.0  # standard deviations: one case of 16,000


def surely(share: float, rows: int, measured: int, slack: float = 0.0) -> bool:
    """Whether a share within the range, of `rows`, is the promised one as far as chance allows.

    Both the rows here and those that the ranges were measured on are samples of houses.

    Args:
        share: within the range, of `rows`.
        rows: binomial, given the true coverage.
        measured: rows that tell the true coverage of a range (beta-binomial, Vovk 2012).
        slack: besides chance.
    """
    deviation = math.sqrt(LEVEL * (1 - LEVEL) * (1 / rows + 1 / measured))
    return abs(share - LEVEL) <= _DEVIATIONS * deviation + 1 / rows + slack
