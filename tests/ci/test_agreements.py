"""Locks of services agree where they must, and each agreement names a package that breaks it."""

from __future__ import annotations

import pytest

from ci.checks.lock import blocks, lock_of, members, services
from ci.common.agreements import FIXED, Agreement, disagreements
from ci.common.paths import CHECKOUT

LOCKS = {name: list(blocks((CHECKOUT / lock_of(name)).read_text())) for name in services()}
TOGETHER = Agreement(tuple(members()), "one environment tests both")
# Each agreement, with a package that it is about
CASES = [(agreement, name) for agreement in FIXED for name in agreement.packages]
CASES += [(agreement, "pydantic") for agreement in FIXED if not agreement.packages]
CASES += [(TOGETHER, "polars"), (TOGETHER, "httpx")]


def moved(requirements: list[str], package: str) -> list[str]:
    """The requirements, with another version of a package."""
    return [f"{package}==0" if line.startswith(f"{package}==") else line for line in requirements]


def test_the_locks_agree() -> None:
    assert disagreements(LOCKS, members()) == []


@pytest.mark.parametrize(
    ("agreement", "package"), CASES, ids=lambda value: value if isinstance(value, str) else "-".join(value.services)
)
def test_another_version_in_one_service_is_named(agreement: Agreement, package: str) -> None:
    having = [name for name in agreement.services if any(line.startswith(f"{package}==") for line in LOCKS[name])]
    changed = having[-1]
    lines = disagreements(LOCKS | {changed: moved(LOCKS[changed], package)}, agreement.services)
    assert any(
        line.startswith(f"{package} is ") and f" in {changed}" in line and agreement.why in line for line in lines
    ), lines


@pytest.mark.parametrize(
    ("services", "package"), [(agreement.services, name) for agreement in FIXED for name in agreement.packages]
)
def test_a_package_that_a_service_lost_is_named(services: tuple[str, ...], package: str) -> None:
    without = [line for line in LOCKS[services[-1]] if not line.startswith(f"{package}==")]
    lines = disagreements(LOCKS | {services[-1]: without}, [])
    assert any(f"absent in {services[-1]}" in line for line in lines), lines


def test_a_package_may_differ_between_services_without_an_agreement() -> None:
    assert disagreements(LOCKS | {"airflow": moved(LOCKS["airflow"], "fastapi")}, members()) == []


def test_versions_for_several_pythons_are_compared_as_a_whole() -> None:
    two = ["numpy==2.4 ; python_full_version < '3.12'", "numpy==2.5 ; python_full_version >= '3.12'"]
    locks = {name: list[str]() for name in services()} | {"ui": two, "datasource": two[1:]}
    lines = disagreements(locks, ["ui", "datasource"])
    assert "numpy is 2.4 or 2.5 in ui and 2.5 in datasource: one environment tests both" in lines
