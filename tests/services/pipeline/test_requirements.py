"""The requirements of a model are closed: nothing that they need is missing, or of another version than here."""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import requirements


def test_every_package_is_pinned_with_all_that_it_needs() -> None:
    found = {line.name: line for line in map(Requirement, requirements.pinned())}
    assert found.keys() >= set(requirements.DIRECT)
    for name, line in found.items():
        assert str(line.specifier) == f"=={distribution(name).version}"
        for needed in map(Requirement, distribution(name).requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                other = canonicalize_name(needed.name)
                assert other in found, f"{name} needs {other}"
                assert needed.specifier.contains(distribution(other).version, prereleases=True)


def test_servers_and_tools_of_the_platform_are_none_of_a_models_needs() -> None:
    names = {Requirement(line).name for line in requirements.pinned()}
    assert not names & {"mlflow", "psycopg", "minio", "alembic", "optuna", "dataframely", "pytest", "house-core"}


def test_extras_bring_what_they_need() -> None:
    found = requirements.pinned(("house-core",))  # needs psycopg[binary]
    assert any(line.startswith("psycopg-binary==") for line in found)


def test_same_order_every_time() -> None:
    assert requirements.pinned() == requirements.pinned(tuple(reversed(requirements.DIRECT)))
