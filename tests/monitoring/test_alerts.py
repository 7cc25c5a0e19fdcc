"""Alert rules: each is valid, has a story that promtool plays through, and a runbook that can be followed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ci.monitoring.__main__ import FILES, differences
from ci.monitoring.alerts import ALERTS, Alert
from ci.paths import CHECKOUT
from ci.promtool import promtool

STORIES = Path(__file__).parent / "stories"
RUNBOOKS = CHECKOUT / "charts" / "monitoring" / "runbooks"
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def play(*words: str | Path) -> str:
    done = subprocess.run([promtool(), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_committed_files_are_what_the_code_says() -> None:
    assert differences() == [], "run `make docs`"


def test_rules_are_valid() -> None:
    play("check", "rules", *FILES.glob("rules/*.yaml"))


@each_alert
def test_story(alert: Alert) -> None:
    story = STORIES / f"{alert.name}.yaml"
    assert story.exists(), f"{alert.name} has no story under tests/monitoring/stories"
    told = yaml.safe_load(story.read_text())
    fires = [check for test in told["tests"] for check in test["alert_rule_test"] if check.get("exp_alerts")]
    quiet = [check for test in told["tests"] for check in test["alert_rule_test"] if not check.get("exp_alerts")]
    assert fires, f"{story.name} never sees the alert fire"
    assert quiet, f"{story.name} never sees the alert stay quiet"
    play("test", "rules", story)


@each_alert
def test_runbook(alert: Alert) -> None:
    runbook = RUNBOOKS / f"{alert.name}.md"
    assert runbook.exists(), f"{alert.name} has no runbook under charts/monitoring/runbooks"
    text = runbook.read_text()
    assert text.startswith(f"# {alert.name}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"], f"{runbook.name}: {headings}"
    for heading, body in zip(headings, re.split(r"^## .+$", text, flags=re.MULTILINE)[1:], strict=True):
        assert body.strip(), f"{runbook.name}: nothing under {heading}"


def test_nothing_is_left_of_alerts_that_are_gone() -> None:
    names = {alert.name for alert in ALERTS}
    assert {path.stem for path in STORIES.glob("*.yaml")} == names
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names
