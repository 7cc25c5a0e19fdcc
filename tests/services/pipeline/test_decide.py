"""A decision and a sentence that a person understands, for every kind of batch."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from core.features import parse_listings
from pipeline.decide import Profile, decide, profile
from pipeline.settings import PipelineSettings

BEFORE = Profile(70_000, tuple(f"S{at:02}" for at in range(50)), ("for_sale",), 220_000, 1_900)
NEW = replace(BEFORE, rows=66_000)


SMALL = "{} valid rows, fewer than 10,000"
COUNT_LATER = "; its rows count in the next training"
BRINGS = "batch 2 brings 94,000 valid rows, 49% of all so far"
CHANGED = replace(NEW, statuses=("for_sale", "sold"), median_price=180_000, median_house_size=1_150)
MOVED = "; the median price moved from 220,000 to 180,000; the median house_size moved from 1,900 to 1,150"
ONE_STATE = replace(NEW, rows=2_800, states=("Massachusetts",))
TWO = replace(NEW, states=("Texas", "Utah"))


@pytest.mark.parametrize(
    ("valid", "new", "before", "decision", "reason"),
    [
        pytest.param(*case, id=name)
        for name, *case in [
            ("baseline", 73_744, NEW, None, "train", "batch 2 is the baseline: 73,744 valid rows from 50 states"),
            ("alike", 94_000, NEW, BEFORE, "train", BRINGS),
            ("hardly moved", 94_000, replace(NEW, median_price=230_000), BEFORE, "train", BRINGS),
            ("changed", 94_000, CHANGED, BEFORE, "train", f"{BRINGS}; status sold is new{MOVED}"),
            ("small", 9_999, NEW, BEFORE, "skip", f"batch 2 has {SMALL.format('9,999')}{COUNT_LATER}"),
            ("one-sided", 50_000, TWO, None, "skip", f"batch 2 has rows from 2 states, fewer than 5{COUNT_LATER}"),
            (
                "small and one-sided", 4_055, ONE_STATE, BEFORE, "skip",
                f"batch 2 has {SMALL.format('4,055')} and rows from 1 state (Massachusetts), fewer than 5{COUNT_LATER}",
            ),
            (
                "nothing", 0, Profile(0, (), (), 0.0, 0.0), None, "skip",
                f"batch 2 has {SMALL.format('0')} and rows from 0 states, fewer than 5{COUNT_LATER}",
            ),
        ]
    ],
)  # fmt: skip
def test_decision_and_reason(
    known: PipelineSettings, valid: int, new: Profile, before: Profile | None, decision: str, reason: str
) -> None:
    assert decide(2, valid, new, before, known) == (decision, reason)


def test_thresholds_are_settings(known: PipelineSettings) -> None:
    easy = known.model_copy(update={"min_batch_rows": 1, "min_batch_states": 1})
    assert decide(3, 1, replace(NEW, rows=1, states=("Texas",)), BEFORE, easy)[0] == "train"


def test_profile_is_of_what_is_there() -> None:
    listings = parse_listings(
        [
            {"state": "Utah", "status": "sold", "price": 300, "house_size": 10},
            {"state": "Texas", "status": "sold", "price": 100},
            {"state": None, "status": None, "price": 200},
        ]
    )
    assert profile(listings) == Profile(3, ("Texas", "Utah"), ("sold",), 200.0, 10.0)
    assert profile(pl.DataFrame(schema=listings.schema)) == Profile(0, (), (), 0.0, 0.0)
