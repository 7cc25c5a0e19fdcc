"""The requirements of a model are complete, and pinned to the installed versions."""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.training import requirements


def test_every_package_is_pinned_with_its_dependencies() -> None:
    pinned = {line.name: line for line in map(Requirement, requirements.pinned())}
    assert pinned.keys() >= set(requirements.DIRECT)
    for name, line in pinned.items():
        assert str(line.specifier) == f"=={distribution(name).version}"
        for requirement in map(Requirement, distribution(name).requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                other = canonicalize_name(requirement.name)
                assert other in pinned, f"{name} needs {other}"
                assert requirement.specifier.contains(distribution(other).version, prereleases=True)


def test_servers_and_tools_of_the_platform_are_none_of_a_models_needs() -> None:
    names = {Requirement(line).name for line in requirements.pinned()}
    assert not names & {"mlflow", "psycopg", "minio", "alembic", "optuna", "dataframely", "pytest", "house-core"}


def test_extras_bring_what_they_need() -> None:
    pinned = requirements.pinned(("house-core",))  # needs psycopg[binary]
    assert any(line.startswith("psycopg-binary==") for line in pinned)


def test_same_order_every_time() -> None:
    assert requirements.pinned() == requirements.pinned(tuple(reversed(requirements.DIRECT)))
