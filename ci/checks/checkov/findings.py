"""Findings of Checkov, and the exceptions from its rules. An exception without a finding is an error, too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from ci.common.console import Failure

SKIPS = Path(__file__).with_name("skips.yaml")


@dataclass(frozen=True, order=True)
class CheckovFinding:
    """An object that breaks a rule."""

    rule: str  # example: CKV_K8S_11
    resource: str  # kind.namespace.name, and for pods that an object creates also their labels
    title: str

    def __str__(self) -> str:
        return f"{self.rule} {self.resource}: {self.title}"


@dataclass(frozen=True)
class Exemption:
    """An exception from a rule, for the objects whose resource matches a pattern of `resources`."""

    rule: str
    resources: tuple[str, ...]
    reason: str

    def covers(self, finding: CheckovFinding) -> bool:
        """Whether this exception explains a finding."""
        return self.rule == finding.rule and any(fnmatchcase(finding.resource, one) for one in self.resources)


@dataclass(frozen=True)
class CheckovReport:
    """Checkov's result for one environment."""

    findings: tuple[CheckovFinding, ...]
    passed: int


def skips(file: Path) -> list[Exemption]:
    """The exceptions of a file.

    Raises:
        Failure: an entry lacks a rule, resources or a reason.
    """
    entries = yaml.safe_load(file.read_text())
    for entry in entries:
        if set(entry) != {"rule", "resources", "reason"} or not all(entry.values()):
            raise Failure(f"{file.name}: the entry {entry} needs rule, resources and reason")
    return [Exemption(entry["rule"], tuple(entry["resources"]), entry["reason"]) for entry in entries]


def parse(output: str) -> CheckovReport:
    """Read the JSON document that Checkov prints for one framework.

    Raises:
        Failure: Checkov checked nothing, or could not read a manifest.
    """
    document = json.loads(output)
    results = document.get("results")
    if not results:
        raise Failure("Checkov checked no object: run `make checkov` again after `rm -rf build/checkov`")
    if unread := results.get("parsing_errors"):
        raise Failure(f"Checkov cannot read {', '.join(unread)}")
    findings = (CheckovFinding(one["check_id"], one["resource"], one["check_name"]) for one in results["failed_checks"])
    return CheckovReport(tuple(sorted(set(findings))), int(document["summary"]["passed"]))


def unexplained(findings: Iterable[CheckovFinding], exceptions: Sequence[Exemption]) -> list[CheckovFinding]:
    """The findings that no exception covers."""
    return sorted({one for one in findings if not any(skip.covers(one) for skip in exceptions)})


def unused(findings: Iterable[CheckovFinding], exceptions: Sequence[Exemption]) -> list[tuple[Exemption, str]]:
    """Patterns of exceptions that cover no finding: the reason is gone, so the exception must go."""
    every = list(findings)
    return [
        (skip, pattern)
        for skip in exceptions
        for pattern in skip.resources
        if not any(Exemption(skip.rule, (pattern,), skip.reason).covers(one) for one in every)
    ]
