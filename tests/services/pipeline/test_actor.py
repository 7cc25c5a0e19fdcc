"""The ledger gets the name of the person that started a stage or a command."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import context
from pipeline.context import Context
from pipeline.settings import PipelineSettings


class Opened:
    """Replaces the ledger, and keeps its arguments."""

    def __init__(self, _: str, **arguments: str) -> None:
        self.arguments = arguments

    def open_for(self, _: str) -> None:
        """The ledger belongs to this platform."""


def test_ledger_has_run_and_actor_of_the_pod(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "Ledger", Opened)
    monkeypatch.setenv("RUN_ID", "manual__1")
    monkeypatch.setenv("ACTOR", "Airflow user admin")
    ledger: Any = Context(pipeline_settings).ledger
    assert ledger.arguments == {"run": "manual__1", "actor": "Airflow user admin"}


@pytest.mark.parametrize("missing", [KeyError("uid not found"), OSError("no such user")])
def test_outside_a_pod_the_actor_is_the_user_of_the_machine(
    pipeline_settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch, missing: Exception
) -> None:
    monkeypatch.delenv("ACTOR", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: "ana")
    assert Context(pipeline_settings).actor == "ana"

    def nameless() -> str:
        raise missing

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 10001)
    assert Context(pipeline_settings).actor == "user 10001"
