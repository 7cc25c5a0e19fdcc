"""Pytest plugin: lists every skipped test with its reason; where CI is set, a skip that is not allowed fails the run.

The setting `allowed_skips` names the file that says which skips are allowed, and why.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml


@dataclass(frozen=True)
class Skip:
    """A test, or a whole file, that was skipped, and the reason that it gave."""

    test: str
    reason: str


@dataclass(frozen=True)
class Rule:
    """One entry of the allow-list.

    `test` and `reason` are patterns of fnmatch for the test's id and for the reason that the skip gives.
    """

    test: str
    reason: str
    why: str

    def __post_init__(self) -> None:
        for name in ("test", "reason", "why"):
            if not str(getattr(self, name) or "").strip():
                raise ValueError(f"An entry needs test, reason and why; {name} is empty in {self}")

    def allows(self, skip: Skip) -> bool:
        return fnmatchcase(skip.test, _literal(self.test)) and fnmatchcase(skip.reason, _literal(self.reason))


def _literal(pattern: str) -> str:
    """Only `*` is special: ids of parametrised tests have brackets."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def read_rules(file: Path) -> list[Rule]:
    """The allow-list.

    Raises:
        pytest.UsageError: an entry lacks a field, or has one that is not known.
    """
    try:
        return [Rule(**entry) for entry in yaml.safe_load(file.read_text()) or []]
    except (TypeError, ValueError) as wrong:
        raise pytest.UsageError(f"{file}: {wrong}") from wrong


def split(skips: Iterable[Skip], rules: list[Rule]) -> tuple[list[Skip], list[Skip]]:
    """Allowed skips and all others, each sorted and without repetition."""
    ordered = sorted(set(skips), key=lambda skip: (skip.test, skip.reason))
    allowed = [skip for skip in ordered if any(rule.allows(skip) for rule in rules)]
    return allowed, [skip for skip in ordered if skip not in allowed]


def lines(title: str, skips: list[Skip]) -> list[str]:
    """A title, then each reason with the tests that gave it; parameters are counted, not listed."""
    by_reason: dict[str, Counter[str]] = {}
    for skip in skips:
        by_reason.setdefault(skip.reason, Counter())[skip.test.partition("[")[0]] += 1
    output = [f"{title}: {len(skips)}"] if skips else []
    for reason, tests in by_reason.items():
        output.append(f"  {reason}")
        output += [f"    {test}" + (f" ({count} parameters)" if count > 1 else "") for test, count in tests.items()]
    return output


def _skip(report: pytest.TestReport | pytest.CollectReport) -> Skip | None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return Skip(report.nodeid, " ".join(text.removeprefix("Skipped: ").split()))


class SkipsPlugin:
    """Collects the skips of a run. Under pytest-xdist the controller collects those of all workers."""

    def __init__(self, config: pytest.Config, allowed: Path) -> None:
        self._config = config
        self._name = allowed.name
        self._rules = read_rules(allowed)
        self._strict = bool(os.environ.get("CI"))
        self._skips: list[Skip] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if skip := _skip(report):
            self._skips.append(skip)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist ended: take over the files that it skipped while it collected."""
        self._skips += [Skip(*skip) for skip in getattr(node, "workeroutput", {}).get("skips", [])]

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Any:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["skips"] = [(skip.test, skip.reason) for skip in self._skips]
        result = yield
        _, others = split(self._skips, self._rules)
        fine = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if others and self._strict and session.exitstatus in fine:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        allowed, others = split(self._skips, self._rules)
        if not allowed and not others:
            return
        terminalreporter.section("skipped tests")
        for line in lines(f"Skipped, allowed by {self._name}", allowed):
            terminalreporter.write_line(line)
        bad = {"red": True} if self._strict else {"yellow": True}
        for line in lines(f"Skipped, not in {self._name}", others):
            terminalreporter.write_line(line, **bad)
        if others:
            fails = "fails the run, because CI is set" if self._strict else "would fail the run where CI is set"
            remedy = f"make these tests run, or add an entry with its reason to {self._name}"
            terminalreporter.write_line(f"This {fails}: {remedy}.", **bad)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("allowed_skips", "file of the skips that do not fail a run where CI is set", "paths")


def pytest_configure(config: pytest.Config) -> None:
    [allowed] = config.getini("allowed_skips")
    config.pluginmanager.register(SkipsPlugin(config, allowed), "house-skips")
