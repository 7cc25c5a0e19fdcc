"""Alert rules: each is valid, passes its promtool story, and has a complete runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ci.checks.promtool import promtool
from ci.common.paths import CHECKOUT
from ci.doctor import health
from ci.monitoring.alerts import ALERTS, Alert
from ci.monitoring.files import FILES, differences

STORIES = Path(__file__).parent / "stories"
RUNBOOKS = CHECKOUT / "charts" / "monitoring" / "runbooks"
# promtool 2.42, the one of Debian 12, reads no native histograms. tests/e2e and tests/faults let a run fail.
WITHOUT_STORY = {"PipelineRunFailed"}
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def play(*words: str | Path) -> str:
    """Output of promtool; fails with it if promtool fails."""
    done = subprocess.run([promtool(), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_generated_files_are_current() -> None:
    assert differences() == [], "run `make docs`"


def test_rules_are_valid() -> None:
    play("check", "rules", *FILES.glob("rules/*.yaml"))


@pytest.mark.parametrize(
    "alert", [one for one in ALERTS if one.name not in WITHOUT_STORY], ids=lambda alert: alert.name
)
def test_story(alert: Alert) -> None:
    story = STORIES / f"{alert.name}.yaml"
    assert story.exists(), f"{alert.name} has no story under tests/monitoring/stories"
    content = yaml.safe_load(story.read_text())
    fires = [check for test in content["tests"] for check in test["alert_rule_test"] if check.get("exp_alerts")]
    quiet = [check for test in content["tests"] for check in test["alert_rule_test"] if not check.get("exp_alerts")]
    assert fires, f"{story.name} has no check in which the alert fires"
    assert quiet or alert.severity == "none", f"{story.name} has no check in which the alert does not fire"
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


def test_doctor_shows_the_runbook_of_the_annotation() -> None:
    """Under another name, so that the doctor cannot derive the path from the name of the alert."""
    [rule] = ALERTS[0].rules()["groups"][0]["rules"]
    firing = {"labels": {**rule["labels"], "alertname": "Other"}, "state": "firing", "annotations": rule["annotations"]}
    assert f"charts/monitoring/runbooks/{ALERTS[0].name}.md" in repr(health.alerts([firing]))


def test_every_story_and_runbook_belongs_to_an_alert() -> None:
    names = {alert.name for alert in ALERTS}
    assert {path.stem for path in STORIES.glob("*.yaml")} == names - WITHOUT_STORY
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names
