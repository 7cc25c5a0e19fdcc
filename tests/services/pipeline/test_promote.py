"""The rule of promotion, and that no failure moves the alias."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from core.errors import BundleError, RegistryError
from core.registry import ModelVersion
from pipeline import promote
from pipeline.promote import judge
from pipeline.settings import PipelineSettings


def evaluation(mae: float, rmse: float, champion: tuple[float, float] | None = (100.0, 200.0)) -> dict[str, Any]:
    return {
        "rows": 1500,
        "challenger": {"mae": mae, "rmse": rmse, "r2": 0.9, "mape": 0.1},
        "champion": {"mae": champion[0], "rmse": champion[1]} if champion else None,
        "champion_version": "1" if champion else None,
        "champion_unusable": None,
    }


@pytest.mark.parametrize(
    ("mae", "rmse", "wins", "told"),
    [
        (96.0, 200.0, True, "MAE $96 against $100 (-4.0%), RMSE $200 against $200 (+0.0%)"),
        (97.1, 150.0, False, "; but the MAE must be at least 3% better"),
        (90.0, 201.9, True, "MAE $90 against $100 (-10.0%), RMSE $202 against $200 (+1.0%)"),
        (90.0, 202.1, False, "; but the RMSE may be at most 1% worse"),
        (100.0, 210.0, False, "; but the MAE must be at least 3% better and the RMSE may be at most 1% worse"),
    ],
)
def test_rule_and_its_sentence(known: PipelineSettings, mae: float, rmse: float, wins: bool, told: str) -> None:
    assert judge(evaluation(mae, rmse), known)[0] is wins
    assert told in judge(evaluation(mae, rmse), known)[1]


@given(some.floats(0.5, 1.5), some.floats(0.5, 1.5), some.floats(1, 1e6), some.floats(1, 1e6))
def test_rule_is_relative_to_the_champion(mae: float, rmse: float, champion_mae: float, champion_rmse: float) -> None:
    known = PipelineSettings.model_construct(min_mae_gain=0.03, max_rmse_loss=0.01)
    if abs(mae - 0.97) < 1e-6 or abs(rmse - 1.01) < 1e-6:
        return  # on the border, rounding decides
    found = judge(evaluation(mae * champion_mae, rmse * champion_rmse, (champion_mae, champion_rmse)), known)
    assert found[0] == (mae < 0.97 and rmse < 1.01)


def test_thresholds_are_settings(known: PipelineSettings) -> None:
    easy = known.model_copy(update={"min_mae_gain": 0.0, "max_rmse_loss": 0.5})
    assert judge(evaluation(100.0, 299.0), easy)[0]


def test_first_model_wins(known: PipelineSettings) -> None:
    assert judge(evaluation(100, 200, None), known) == (True, "it is the first model: MAE $100 on 1,500 rows")


def test_champion_that_cannot_serve_is_replaced(known: PipelineSettings) -> None:
    seen = evaluation(100, 200, None) | {"champion_unusable": "it has other features"}
    assert judge(seen, known) == (True, "the champion cannot serve: it has other features")


@pytest.mark.parametrize("champion", [None, (100.0, 200.0)])
@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_challenger_without_finite_scores_never_wins(
    known: PipelineSettings, score: float, champion: tuple[float, float] | None
) -> None:
    assert not judge(evaluation(score, 1, champion), known)[0]
    assert not judge(evaluation(1, score, champion), known)[0]


@dataclass
class Outside:
    """MLflow and ledger as promote sees them; `broken` is the call that fails."""

    seen: dict[str, Any]
    champion_now: str | None = "1"
    broken: str = ""
    verdict: dict[str, Any] | None = None
    calls: list[str] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.broken:
            raise (BundleError if name == "check_golden" else RegistryError)(f"{name} failed")

    def evaluation(self, _: str) -> dict[str, Any]:
        return self.seen

    def bundle(self, _: str) -> Any:
        return SimpleNamespace(check_golden=lambda: self._call("check_golden"))

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

    def champion(self, name: str, _: str) -> ModelVersion | None:
        return ModelVersion(name, self.champion_now, "other", {}, "") if self.champion_now else None

    def promotion(self, _: str) -> dict[str, Any] | None:
        return self.verdict

    def add_promotion(self, _: str, __: str, promoted: bool, reason: str, *___: Any) -> None:
        self._call("add_promotion")
        self.verdict = {"promoted": promoted, "reason": reason}


def act(outside: Outside, known: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(promote, "Tracking", lambda *_: outside)
    return promote.run(SimpleNamespace(settings=known, registry=outside, ledger=outside), "run")  # type: ignore[arg-type]


def test_winner_becomes_champion_after_everything_was_checked(
    known: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(evaluation(90, 190))
    result = act(outside, known, monkeypatch)
    assert (result["promoted"], result["version"]) == (True, "2")
    assert outside.calls == ["check_golden", "register", "tag_version", "set_alias", "add_promotion"]


def test_loser_is_registered_with_the_reason_and_the_champion_stays(
    known: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(evaluation(99, 190))
    result = act(outside, known, monkeypatch)
    assert result["summary"].startswith("version 2 rejected: MAE $99 against $100 (-1.0%)")
    assert outside.calls == ["check_golden", "register", "tag_version", "add_promotion"]


@pytest.mark.parametrize("broken", ["check_golden", "register", "tag_version", "set_alias"])
def test_failure_leaves_the_alias(known: PipelineSettings, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    outside = Outside(evaluation(90, 190), broken=broken)
    with pytest.raises((BundleError, RegistryError), match=f"{broken} failed"):
        act(outside, known, monkeypatch)
    assert outside.champion_now == "1"
    assert outside.verdict is None, "a verdict was noted that was never acted on"
    outside.broken = ""
    assert act(outside, known, monkeypatch)["promoted"], "run again, it does its work"
    assert outside.champion_now == "2"


def test_champion_that_changed_since_the_evaluation_stays(
    known: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside(evaluation(90, 190), champion_now="7")
    with pytest.raises(RegistryError, match="compared with version 1, but the champion is version 7 now: run evaluate"):
        act(outside, known, monkeypatch)
    assert outside.champion_now == "7"


def test_verdict_stands_and_a_later_champion_too(known: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = Outside(evaluation(90, 190))
    first = act(outside, known, monkeypatch)
    outside.champion_now = "3"
    assert act(outside, known, monkeypatch) == first
    assert outside.champion_now == "3", "an old promotion, run again, took the alias back"
