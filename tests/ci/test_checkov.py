"""Every finding of Checkov is fixed or explained, and every explanation belongs to a finding."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from ci.checks.checkov.findings import SKIPS, CheckovFinding, Exemption, parse, skips, unexplained, unused
from ci.checks.lock import blocks
from ci.common.console import Failure
from ci.common.environments import environments
from tests.kit.rendering import ENVIRONMENTS

LIMITS = CheckovFinding("CKV_K8S_11", "Deployment.mlops.fastapi", "CPU limits should be set")
TOKEN = CheckovFinding(
    "CKV_K8S_38", "StatefulSet.mlops.prometheus", "Ensure that tokens are only mounted where necessary"
)


def document(*failed: CheckovFinding, passed: int = 3, unread: tuple[str, ...] = ()) -> str:
    """Checkov's output for these findings."""
    rows = [{"check_id": one.rule, "resource": one.resource, "check_name": one.title} for one in failed]
    results = {"failed_checks": rows, "parsing_errors": list(unread)}
    return json.dumps({"check_type": "kubernetes", "results": results, "summary": {"passed": passed}})


def test_findings_are_read_once_each() -> None:
    report = parse(document(LIMITS, TOKEN, LIMITS))
    assert (report.findings, report.passed) == ((LIMITS, TOKEN), 3)


def test_exception_covers_its_rule_and_its_objects_only() -> None:
    skip = Exemption("CKV_K8S_11", ("Deployment.mlops.*",), "why")
    assert unexplained([LIMITS, TOKEN], [skip]) == [TOKEN]
    elsewhere = CheckovFinding("CKV_K8S_11", "Deployment.kube-system.x", "CPU limits should be set")
    assert unexplained([elsewhere], [skip]) == [elsewhere]


def test_exception_that_explains_nothing_is_reported() -> None:
    skip = Exemption("CKV_K8S_11", ("Deployment.mlops.fastapi", "Job.*"), "why")
    assert unused([LIMITS, TOKEN], [skip]) == [(skip, "Job.*")]
    assert unused([LIMITS], [skip, Exemption("CKV_K8S_38", ("*",), "why")])[-1][1] == "*"


def test_output_without_results_is_not_taken_for_success() -> None:
    with pytest.raises(Failure, match="Checkov checked no object"):
        parse(json.dumps({"passed": 0, "failed": 0, "resource_count": 0}))
    with pytest.raises(Failure, match=r"Checkov cannot read /vm\.yaml"):
        parse(document(unread=("/vm.yaml",)))


@pytest.mark.parametrize("entry", [{"rule": "X", "resources": ["*"]}, {"rule": "X", "resources": ["*"], "reason": ""}])
def test_exception_without_a_reason_is_refused(entry: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "skips.yaml"
    file.write_text(yaml.safe_dump([entry]))
    with pytest.raises(Failure, match=r"skips\.yaml: the entry .* needs rule, resources and reason"):
        skips(file)


def test_committed_exceptions_name_a_rule_once_and_give_a_sentence() -> None:
    exceptions = skips(SKIPS)
    rules = [skip.rule for skip in exceptions]
    assert rules == sorted(set(rules), key=lambda rule: [int(part) for part in re.findall(r"\d+", rule)])
    for skip in exceptions:
        assert re.fullmatch(r"CKV2?_K8S_\d+", skip.rule), skip.rule
        assert len(skip.reason.split()) >= 5, f"{skip.rule}: {skip.reason!r} is too short for a reason"


def test_every_environment_is_checked() -> None:
    assert environments() == sorted(ENVIRONMENTS)


def test_lock_has_checkov_with_hashes() -> None:
    requirements = blocks(SKIPS.with_name("requirements.lock").read_text())
    assert any(requirement.startswith("checkov==") for requirement in requirements)
    assert [requirement for requirement, hashes in requirements.items() if not hashes] == []
