"""A stage waits for MLflow with a question whose answer it needs anyway, and asks that question once."""

from __future__ import annotations

import pytest

from core.errors import RegistryError
from core.stores.registry import ModelVersion, RegistryClient
from pipeline.context import Context
from pipeline.settings import PipelineSettings

CHAMPION = ModelVersion("house-price", "3", "run", {}, "")


class Questions:
    """Counts the questions for the champion, and the listings of artifacts. The first ones fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, away: int = 0, artifacts_away: int = 0) -> None:
        self.count, self.away, self.artifacts_away = 0, away, artifacts_away
        self.listings = 0
        monkeypatch.setattr(RegistryClient, "version_by_alias", self.answer)
        monkeypatch.setattr(RegistryClient, "check_artifacts", self.list_artifacts)

    def answer(self, name: str, alias: str) -> ModelVersion:
        assert (name, alias) == ("house-price", "champion")
        self.count += 1
        if self.count <= self.away:
            raise RegistryError("MLflow is away")
        return CHAMPION

    def list_artifacts(self) -> None:
        self.listings += 1
        if self.listings <= self.artifacts_away:
            raise RegistryError("MLflow's object store is away")


def context(settings: PipelineSettings, seconds: float) -> Context:
    return Context(settings.model_copy(update={"component_wait_seconds": seconds}))


def test_the_answer_of_the_wait_is_the_champion(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, stage = Questions(monkeypatch), context(pipeline_settings, 60)
    _ = stage.registry
    assert stage.champion == CHAMPION
    _ = stage.registry
    assert stage.champion == CHAMPION
    assert questions.count == 1


def test_a_stage_waits_for_mlflow_at_its_first_use(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    questions = Questions(monkeypatch, away=2, artifacts_away=3)
    stage = context(pipeline_settings, 60)
    for _ in range(2):
        assert stage.registry
    assert (questions.count, questions.listings) == (3, 4)


def test_without_time_to_wait_nothing_is_asked_in_advance(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, stage = Questions(monkeypatch, away=1), context(pipeline_settings, 0)
    _ = stage.registry
    assert (questions.count, questions.listings) == (0, 0)
    with pytest.raises(RegistryError, match="MLflow is away"):
        _ = stage.champion
    assert stage.champion == CHAMPION, "an error is not kept"
