"""The README's table of checks: each check that fails in a test has a row, and a test produces each sentence."""

from __future__ import annotations

import re

import pytest

from ci.common.paths import CHECKOUT
from tests.doctor.conftest import RAN, SAID

SOURCES = {"test_cluster.py", "test_host.py", "test_images.py", "test_network.py", "test_objects.py",
           "test_program.py"}  # fmt: skip


def rows() -> list[tuple[str, str]]:
    """Check and sentence of each row. A row without a check belongs to the check above."""
    text = (CHECKOUT / "ci/doctor/README.md").read_text().partition("| check | injected fault")[2].partition("\n\n")[0]
    table: list[tuple[str, str]] = []
    for line in text.splitlines()[2:]:
        check, _, sentence = (cell.strip() for cell in line.strip("|").split(" | "))
        table.append((check.replace("`<name>`", "").strip() or table[-1][0], sentence))
    return table


@pytest.fixture
def results(request: pytest.FixtureRequest) -> set[tuple[str, str]]:
    if request.config.option.keyword or not RAN >= SOURCES:
        pytest.skip("not all tests of this folder ran")
    return SAID


def test_a_fault_produces_every_sentence_of_the_table(results: set[tuple[str, str]]) -> None:
    for check, sentence in rows():
        pattern = ".*".join(re.escape(part.strip()) for part in sentence.split("..."))
        spoken = [what for name, what in results if name.startswith(check) and re.fullmatch(pattern, what, re.DOTALL)]
        assert spoken, f"{check}: no test makes it say `{sentence}`"


def test_every_check_that_fails_in_a_test_has_a_row(results: set[tuple[str, str]]) -> None:
    checks = {check for check, _ in rows()}
    lost = {name for name, _ in results if not any(name == one or name.startswith(f"{one} ") for one in checks)}
    assert lost == set(), "ci/doctor/README.md has no row for them"
