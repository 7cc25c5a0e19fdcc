"""The model card shows training data and errors; its plot is also a separate image."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import lightgbm
import numpy as np
import polars as pl
import pytest

from core.features.columns import FEATURES, FIELDS, FINGERPRINT
from core.ledger import Batch
from core.model.booster import Booster
from datasource import synthetic
from pipeline.evaluation.scores import interval_segments, segments
from pipeline.reports import card
from pipeline.settings import PipelineSettings
from pipeline.training.splits import split
from pipeline.training.trainer import TrainingData, train_model
from pipeline.validation.row_checks import valid_rows

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> card.Facts:
    listings = [synthetic.generate(number, seed=7, scale=0.005)[0] for number in (2, 4)]
    parts = split(valid_rows(pl.concat(listings)))
    data = TrainingData.of(parts)
    parameters = data.counts()
    settings = PipelineSettings.model_construct(num_threads=1, num_boost_round=80)
    trained = train_model(data, settings, tmp_path_factory.mktemp("bundle"))
    sent = [Batch(2, "ab" * 32, "used", 4_321, 4_000, 320, 1, {}, "raw/2"),
            Batch(4, "cd" * 32, "used", 9_876, 9_876, 0, 0, {}, "raw/4")]  # fmt: skip
    return card.Facts(sent, "status <sold> is new", "v1.2", parameters, trained.scores, trained.gain, parts["test"],
                      trained.estimates, trained.sample, trained.contributions, trained.without)  # fmt: skip


def test_card_has_data_errors_and_limits(facts: card.Facts) -> None:
    page = card.page(facts)
    for text in (
        "batches 2, 4",
        "status &lt;sold&gt; is new",
        "v1.2",
        FINGERPRINT,
        "Intended use",
        "Limits",
        "not an appraisal",
    ):
        assert text in page
    for batch in facts.data:
        counts = (batch.rows, batch.valid, batch.quarantined, batch.duplicates)
        cells = [str(batch.batch_number), *(f"{count:,}" for count in counts), batch.sha256]
        assert all(cell in page for cell in cells), f"batch {batch.batch_number}: {cells}"
    for name, part in segments(facts.test, facts.estimates.prices).items():
        assert f"<td>{name}</td>" in page
        assert f"${part['mae']:,.0f}" in page
    ranged = interval_segments(facts.test, facts.estimates)
    assert ranged
    for name, part in ranged.items():
        cells = f"<td>{name}</td><td>{part['rows']:,}</td><td>{part['coverage']:.1%}</td><td>${part['width']:,.0f}</td>"
        assert cells in page.replace(" class=number", "")
    for name, part in facts.scores.items():
        assert f"<td>{name}</td>" in page
        assert f"${part['rmse']:,.0f}" in page
    assert card.page(facts) == page, "the same model has the same card"


def test_plot_is_an_image_with_a_point_per_row_and_feature(facts: card.Facts) -> None:
    drawing = ElementTree.fromstring(card.plot(facts))  # noqa: S314 - the test made this XML
    assert drawing.tag == f"{SVG}svg"
    names = [text.text for text in drawing.iter(f"{SVG}text")]
    top = list(card.summary(facts))[:5]
    assert names[:5] == top
    points = list(drawing.iter(f"{SVG}circle"))
    rows = len(facts.matrix[:: max(1, len(facts.matrix) // 300)])
    assert len(points) == rows * 12
    width, height = float(drawing.get("width", 0)), float(drawing.get("height", 0))
    for point in points:
        assert 0 < float(point.get("cx", -1)) < width
        assert 0 < float(point.get("cy", -1)) < height


def test_card_has_scores_without_each_field(facts: card.Facts) -> None:
    page = card.page(facts)
    assert {*FIELDS, "nothing", "bed, bath", "anything"} <= facts.without.keys()
    for name, part in facts.without.items():
        assert f"<td>{name}</td>" in page
        assert f">${part['mae']:,.0f}</td>" in page
        assert f">{part['coverage']:.1%}</td>" in page
    assert facts.without["anything"]["mae"] > facts.without["house_size"]["mae"] > facts.without["nothing"]["mae"]
    bare = {name: {key: part[key] for key in ("rows", *facts.scores["train"])} for name, part in facts.without.items()}
    assert "Test rows without some fields" in card.page(card.Facts(**{**vars(facts), "without": bare}))


def test_missing_values_are_grey(facts: card.Facts) -> None:
    column = FEATURES.index(next(iter(card.summary(facts))))
    matrix = facts.matrix.copy()
    matrix[:, column] = np.nan
    unknown = card.Facts(**{**vars(facts), "matrix": matrix})
    assert card.plot(unknown).count("#9aa5b1") > card.plot(facts).count("#9aa5b1")


def test_contributions_equal_those_of_lightgbm_and_add_up_to_the_prediction(facts: card.Facts, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    matrix = draw.normal(size=(300, 4)).astype(np.float32)
    matrix[::5, 2] = np.nan
    data = lightgbm.Dataset(matrix, matrix[:, 0] + np.nan_to_num(matrix[:, 2]))
    trained = lightgbm.train({"objective": "regression", "verbose": -1, "num_threads": 1}, data, 20)
    booster = Booster(trained.model_to_string())
    contributions = booster.contributions(matrix)
    assert np.array_equal(contributions, np.asarray(trained.predict(matrix, pred_contrib=True)))
    assert contributions.sum(axis=1) == pytest.approx(booster.predict(matrix))
    assert facts.contributions.shape == facts.matrix.shape
