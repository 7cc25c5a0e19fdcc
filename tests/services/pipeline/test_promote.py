"""A failure between evaluation and alias changes neither the champion nor the recorded verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import BundleError, RegistryError
from core.stores.registry import ModelVersion
from pipeline.evaluation import verdict
from pipeline.settings import PipelineSettings
from pipeline.stages import promote, reject

WON: dict[str, Any] = {
    "challenger": {"mae": 90.0},
    "champion": {"mae": 100.0},
    "champion_version": "1",
    "promoted": True,
    "reason": "MAE $90 against $100",
}
LOST = WON | {"promoted": False, "reason": "MAE $99 against $100"}


@dataclass
class Outside:
    """Fake MLflow and ledger. `broken` is the call that fails."""

    seen: dict[str, Any]
    champion_now: str | None = "1"
    broken: str = ""
    in_mlflow: str = "ab" * 32  # hash of the bundle
    trusted: list[tuple[str, str]] = field(default_factory=list)  # champions and their hashes in the ledger
    verdict: dict[str, Any] | None = None
    calls: list[str] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.broken:
            raise (BundleError if name == "check_golden" else RegistryError)(f"{name} failed")

    def evaluation(self, _: str) -> dict[str, Any]:
        return self.seen

    def bundle(self, _: str) -> Any:
        return SimpleNamespace(check_golden=lambda: self._call("check_golden"), manifest_sha256=self.in_mlflow)

    def trainings_without_hash(self) -> list[str]:
        return []

    def record_hashes(self, hashes: dict[str, str]) -> None:
        assert hashes == {}

    def training(self, _: str) -> dict[str, Any]:
        return {"manifest_sha256": "ab" * 32}

    def run(self, _: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(tags={"manifest_sha256": "ab"}))

    def register(self, _: str, __: dict[str, str]) -> str:
        self._call("register")
        return "2"

    def tag_version(self, *_: str, **__: str) -> None:
        self._call("tag_version")

    def set_alias(self, version: str) -> None:
        self._call("set_alias")
        self.champion_now = version

    def version_by_alias(self, name: str, _: str) -> ModelVersion | None:
        return ModelVersion(name, self.champion_now, "other", {}, "") if self.champion_now else None

    def promotion(self, _: str) -> dict[str, Any] | None:
        return self.verdict

    @contextmanager
    def exclusive(self) -> Iterator[Outside]:
        before = self.verdict, self.trusted.copy()
        try:
            yield self
        except BaseException:
            self.verdict, self.trusted = before
            raise

    def add_promotion(self, _: str, __: str, promoted: bool, reason: str, *___: Any) -> None:
        self._call("add_promotion")
        self.verdict = self.verdict or {"promoted": promoted, "reason": reason}

    def add_move(self, version: str, *rest: str) -> None:
        self._call("add_move")
        self.trusted.append((version, rest[-1]))


def act(outside: Outside, pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(verdict, "Tracking", lambda *_: outside)
    stage = promote if outside.seen["promoted"] else reject
    return stage.run(SimpleNamespace(settings=pipeline_settings, registry=outside, ledger=outside), "run")  # type: ignore[arg-type]


def test_winner_becomes_champion_after_all_checks(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(WON)
    result = act(outside, pipeline_settings, monkeypatch)
    assert (result["promoted"], result["version"]) == (True, "2")
    assert outside.calls == ["check_golden", "register", "tag_version", "add_promotion", "add_move", "set_alias"]
    assert outside.trusted == [("2", "ab" * 32)]


def test_loser_is_registered_with_its_reason(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(LOST)
    result = act(outside, pipeline_settings, monkeypatch)
    assert result["summary"].startswith("version 2 rejected: MAE $99 against $100")
    assert outside.calls == ["check_golden", "register", "tag_version", "add_promotion"]


@pytest.mark.parametrize("broken", ["check_golden", "register", "tag_version", "set_alias"])
def test_failure_does_not_move_the_alias(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    outside = Outside(WON, broken=broken)
    with pytest.raises((BundleError, RegistryError), match=f"{broken} failed"):
        act(outside, pipeline_settings, monkeypatch)
    assert outside.champion_now == "1"
    assert outside.verdict is None, "the verdict was recorded although it was not carried out"
    assert outside.trusted == [], "the hash was recorded although the verdict was not"
    outside.broken = ""
    assert act(outside, pipeline_settings, monkeypatch)["promoted"], "a second run succeeds"
    assert outside.champion_now == "2"


def test_bundle_that_was_replaced_after_its_training_is_not_promoted(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(WON, in_mlflow="cd" * 32)
    with pytest.raises(BundleError, match=r"sha256 cdcdcdcdcdcd, but the ledger has abababababab: somebody replaced"):
        act(outside, pipeline_settings, monkeypatch)
    assert (outside.champion_now, outside.calls) == ("1", [])


def test_champion_that_changed_since_the_evaluation_is_kept(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(WON, champion_now="7")
    with pytest.raises(RegistryError, match="compared with version 1, but the champion is version 7 now: run evaluate"):
        act(outside, pipeline_settings, monkeypatch)
    assert outside.champion_now == "7"


def test_second_run_keeps_the_verdict_and_a_later_champion(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(WON)
    first = act(outside, pipeline_settings, monkeypatch)
    outside.champion_now = "3"
    assert act(outside, pipeline_settings, monkeypatch) == first
    assert outside.champion_now == "3", "a second run of an old promotion moved the alias back"


@pytest.mark.parametrize(("seen", "stage"), [(LOST, promote), (WON, reject)])
def test_stage_refuses_the_opposite_verdict(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], stage: Any
) -> None:
    outside = Outside(seen)
    monkeypatch.setattr(verdict, "Tracking", lambda *_: outside)
    with pytest.raises(RegistryError, match=r"the verdict of the gate is (promote|reject): MAE"):
        stage.run(SimpleNamespace(settings=pipeline_settings, registry=outside, ledger=outside), "run")
    assert not outside.calls
