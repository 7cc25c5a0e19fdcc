"""The decision and its sentence, for every kind of evidence; and its record and page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.decision.document import full_document, ledger_document
from pipeline.decision.drift import Shift, bin_names
from pipeline.decision.evidence import ChampionEvidence, Evidence
from pipeline.decision.policy import decide
from pipeline.reports import decision_page
from pipeline.settings import PipelineSettings

STATES = [f"S{at:02}" for at in range(50)]


def shift(column: str, grown: dict[str, tuple[float, float]], psi: float, ks: float | None = 0.1) -> Shift:
    """A column in which only these bins changed."""
    names = bin_names(column) if column not in ("status", "state") else list(grown)
    return Shift(column, psi, ks, None, {name: grown.get(name, (0.1, 0.1)) for name in names})


CALM = shift("price", {}, 0.03)
CITY = Shift("city", None, None, 0.02, {})
SMALL_HOUSES = shift("house_size", {"1,000 to 1,250": (0.0, 0.4), "1,250 to 1,500": (0.001, 0.5)}, 3.1)
SOLD = Shift("status", 18.4, None, 1.0, {"for_sale": (1.0, 0.0), "sold": (0.0, 1.0)})
MORE_BEDS = shift("bed", {"4": (0.12, 0.3)}, 0.15, ks=0.25)
LOST_PLACES = Shift("city", None, None, 0.31, {})
CHAMPION = ChampionEvidence(
    "3", [0, 1], 160_000, 51, holdout_mae=30_000.0, mae=30_600.0,
    by_value=[
        {"column": "house_size", "value": "1,000 to 1,250", "rows": 300, "mae": 40_000.0},
        {"column": "house_size", "value": "1,250 to 1,500", "rows": 100, "mae": 49_200.0},
        {"column": "status", "value": "sold", "rows": 90_000, "mae": 129_000.0},
    ],
)  # fmt: skip
SIMILAR = Evidence(2, [2], 90_000, STATES, CHAMPION, [CALM, CITY])
LATER = "; its rows count in the next training"
IN_UTAH = replace(SIMILAR, rows=4_055, states=["Utah"])
MANY = [SMALL_HOUSES, SOLD, shift("price", {"from 5,000,000": (0.0, 0.2)}, 2.0), shift("bath", {"2": (0.1, 0.6)}, 0.9)]


@pytest.mark.parametrize(
    ("evidence", "decision", "reason"),
    [
        pytest.param(*case, id=name)
        for name, *case in [
            ("baseline", replace(SIMILAR, champion=None, shifts=[]), "train",
             "batch 2 is the baseline: 90,000 clean rows from 50 states; there is no champion yet"),
            ("no champion yet", replace(SIMILAR, pending=[0, 1, 2], champion=None, shifts=[]), "train",
             "there is no champion yet, and batch 2 (with 0, 1, unused so far) has 90,000 clean rows from 50 states"),
            ("too small and of one state", IN_UTAH, "skip",
             f"batch 2 has 4,055 clean rows, fewer than 10,000 and rows from 1 state (Utah), fewer than 13{LATER}"),
            ("too small a baseline", replace(IN_UTAH, champion=None, shifts=[]), "skip",
             f"batch 2 has 4,055 clean rows, fewer than 10,000 and rows from 1 state (Utah), fewer than 5{LATER}"),
            ("nothing", replace(SIMILAR, rows=0, states=[]), "skip",
             f"batch 2 has 0 clean rows, fewer than 10,000 and rows from 0 states, fewer than 13{LATER}"),
            ("small batches that add up", replace(SIMILAR, batch=6, pending=[3, 5, 6], shifts=[SOLD]), "train",
             ("batch 6 (with 3, 5, unused so far): status moved (PSI 18.4 over 0.2): listings with status sold are new "
             "to the champion, whose MAE on them is 4.3 times that on its holdout")),
            ("similar", SIMILAR, "skip",
             ("batch 2 resembles the training data of the champion: the largest PSI is 0.03 (price), and the "
             f"champion's MAE on it, $30,600, is 2% worse than on its holdout{LATER}")),
            ("a feature moved", replace(SIMILAR, shifts=[CALM, SMALL_HOUSES]), "train",
             ("batch 2: house_size moved (PSI 3.1 over 0.2): listings of 1,000 to 1,500 square feet are new to the "
             "champion, whose MAE on them is 41% worse than on its holdout")),
            ("by Kolmogorov-Smirnov", replace(SIMILAR, shifts=[MORE_BEDS]), "train",
             "batch 2: bed moved (KS 0.25 over 0.2): listings of 4 bedrooms went from 12% to 30% of rows"),
            ("unseen places", replace(SIMILAR, shifts=[CALM, LOST_PLACES]), "train",
             "batch 2: 31% of its rows are of a city that the champion has never seen"),
            ("priced badly", replace(SIMILAR, champion=replace(CHAMPION, mae=36_000.0)), "train",
             "batch 2: the champion's MAE on it, $36,000, is 20% worse than on its holdout (over 10%)"),
            ("unused rows", replace(SIMILAR, rows=200_000), "train",
             "batch 2: nothing moved, but its 200,000 rows are 56% of all (over 50%)"),
            ("champion that cannot serve",
             replace(SIMILAR, champion=ChampionEvidence("3", [0], 9_000, 50, "other features")), "train",
             "batch 2: the champion, version 3, cannot serve: other features"),
        ]
    ],
)  # fmt: skip
def test_decision_and_reason(
    pipeline_settings: PipelineSettings, evidence: Evidence, decision: str, reason: str
) -> None:
    assert decide(evidence, pipeline_settings) == (decision, reason)


def test_sentence_names_the_strongest_reasons_and_counts_the_others(pipeline_settings: PipelineSettings) -> None:
    decision, reason = decide(replace(SIMILAR, shifts=MANY), pipeline_settings)
    assert decision == "train"
    assert [reason.index(word) for word in ("status moved", "house_size moved", "price moved")] == sorted(
        reason.index(word) for word in ("status moved", "house_size moved", "price moved")
    )
    assert reason.endswith("; and 1 more")
    assert "bath" not in reason


@pytest.mark.parametrize(
    ("setting", "value", "evidence"),
    [
        ("max_psi", 99.0, replace(SIMILAR, shifts=[SMALL_HOUSES])),
        ("max_ks", 0.3, replace(SIMILAR, shifts=[MORE_BEDS])),
        ("max_unseen", 0.4, replace(SIMILAR, shifts=[CALM, LOST_PLACES])),
        ("max_mae_rise", 0.3, replace(SIMILAR, champion=replace(CHAMPION, mae=36_000.0))),
        ("max_unused_share", 0.6, replace(SIMILAR, rows=200_000)),
        ("min_batch_rows", 90_001, replace(SIMILAR, shifts=[SOLD])),
        ("min_batch_states", 51, replace(SIMILAR, shifts=[SOLD])),
        ("min_state_share", 1.0, replace(SIMILAR, shifts=[SOLD])),
    ],
)
def test_every_threshold_is_a_setting(
    pipeline_settings: PipelineSettings, setting: str, value: Any, evidence: Evidence
) -> None:
    assert decide(evidence, pipeline_settings)[0] == "train"
    assert decide(evidence, pipeline_settings.model_copy(update={setting: value}))[0] == "skip"


@given(
    rows=some.integers(10_000, 10**6),
    psi=some.floats(0, 20),
    ks=some.floats(0, 1),
    unseen=some.floats(0, 1),
    mae=some.floats(1, 1e6),
)
def test_decision_follows_the_policy(rows: int, psi: float, ks: float, unseen: float, mae: float) -> None:
    pipeline_settings = PipelineSettings(data_api_url="x", data_uri="x", ledger_dsn="x", mlflow_tracking_uri="x")
    shifts = [replace(SMALL_HOUSES, psi=psi, ks=ks), Shift("zip_code", None, None, unseen, {})]
    evidence = replace(SIMILAR, rows=rows, shifts=shifts, champion=replace(CHAMPION, mae=mae))
    reason = psi > 0.2 or ks > 0.2 or unseen > 0.1 or mae / 30_000 - 1 > 0.1 or rows / (rows + 160_000) > 0.5
    assert decide(evidence, pipeline_settings)[0] == ("train" if reason else "skip")


@pytest.mark.parametrize("evidence", [SIMILAR, replace(SIMILAR, shifts=[*MANY, CITY]), replace(SIMILAR, champion=None)])
def test_evidence_is_stored_as_json_and_as_a_page(pipeline_settings: PipelineSettings, evidence: Evidence) -> None:
    decided = decide(evidence, pipeline_settings)
    record = json.loads(json.dumps(full_document(evidence, decided, pipeline_settings)))
    assert (record["decision"], record["reason"]) == decided
    short = ledger_document(record, "a" * 32)
    assert len(json.dumps(short)) < 4000, "the row of the ledger stays readable"
    assert [column["column"] for column in short["columns"]] == [each.column for each in evidence.shifts]
    shown = decision_page.render(record)
    assert shown.count("<svg") == sum(1 for each in evidence.shifts if each.column not in ("city", "state"))
    assert "<script" not in shown
    assert "http" not in shown.replace("http-equiv", ""), "the page loads nothing from elsewhere"
