"""The comparison of two models on one holdout: its record, and when it is still valid."""

from __future__ import annotations

import json

import polars as pl
import pytest

from core.model.bundle import Bundle, load_bundle
from core.stores.registry import ModelVersion
from datasource import synthetic
from pipeline.evaluation.comparison import compare, still_valid
from pipeline.evaluation.gate import judge
from pipeline.reports import batch_page
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows

SETTINGS = PipelineSettings.model_construct(num_threads=1)
VERSION = ModelVersion("house-price", "3", "run of version 3", {}, "")
ROW = {"batch_number": 4, "rows": 9, "valid": 8, "quarantined": 1, "duplicates": None, "reason": "status <b>"}


@pytest.fixture(scope="module")
def holdout() -> pl.DataFrame:
    return valid_rows(synthetic.generate(4, seed=8, scale=0.01)[0])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """A poor model and a good one."""
    result = []
    for rounds in (5, 100):
        folder = tmp_path_factory.mktemp(str(rounds))
        data = TrainingData.of(split(valid_rows(synthetic.generate(4, seed=7, scale=0.008)[0])))
        train_model(data, SETTINGS.model_copy(update={"num_boost_round": rounds}), folder)
        result.append(load_bundle(folder))
    return result


def test_record_has_both_models_and_is_json(holdout: pl.DataFrame, bundles: list[Bundle]) -> None:
    evaluation = compare([Deferred.of(holdout)], [2, 4], bundles[1], bundles[0], SETTINGS)
    assert json.loads(json.dumps(evaluation)) == evaluation
    assert evaluation["champion"] is not None
    assert evaluation["challenger"]["mae"] < evaluation["champion"]["mae"]
    assert evaluation["interval"]["low"] <= evaluation["interval"]["gain"] <= evaluation["interval"]["high"]
    assert {part["segment"].split()[0] for part in evaluation["guarded_segments"]} == {"status", "state", "priced"}
    evaluation["promoted"], evaluation["reason"] = judge(evaluation, SETTINGS)
    page = batch_page.render(ROW, evaluation, "version 4 promoted")
    for text in ("status &lt;b&gt;", "Segments of the gate", "Challenger per segment", evaluation["reason"][:20]):
        assert text in page


def test_first_model_has_no_champion_and_wins(holdout: pl.DataFrame, bundles: list[Bundle]) -> None:
    evaluation = compare([Deferred.of(holdout)], [2], bundles[0], None, SETTINGS)
    assert (evaluation["champion"], evaluation["champion_segments"], evaluation["rows"]) == (None, None, holdout.height)
    assert "interval" not in evaluation
    assert judge(evaluation, SETTINGS)[0]


def test_evaluation_is_valid_until_another_batch_or_champion_comes(
    holdout: pl.DataFrame, bundles: list[Bundle]
) -> None:
    evaluation = compare([Deferred.of(holdout)], [2, 4], bundles[0], None, SETTINGS)
    assert still_valid(evaluation, "run", None, [2, 4])
    assert not still_valid(evaluation, "run", None, [2, 4, 5])
    assert not still_valid(evaluation, "run", VERSION, [2, 4])
    assert still_valid(evaluation, VERSION.run_id, VERSION, [2, 4, 5]), "the run is the champion because of it"
    evaluation["champion_version"] = VERSION.version
    assert still_valid(evaluation, "run", VERSION, [2, 4])
