"""Versions that must agree between locks of services, although each service is resolved alone.

`make lock` writes no locks that break an agreement, and a test checks the committed ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Agreement:
    """Services whose locks have one version of each of `packages`; without `packages`, of each shared package."""

    services: tuple[str, ...]
    why: str
    packages: tuple[str, ...] = ()


FIXED = (
    Agreement(
        ("pipeline", "predictor"),
        "models travel from the pipeline to the predictor",
        ("lightgbm", "numpy", "polars"),
    ),
    Agreement(
        ("mlflow", "pipeline"),
        "a client calls paths that a server of another version answers with 404",
        ("mlflow-skinny",),
    ),
    Agreement(("core", "pipeline", "predictor"), "core runs in both images, on one ledger and one object store"),
)


def disagreements(locks: Mapping[str, Iterable[str]], together: Iterable[str]) -> list[str]:
    """A line for each package whose versions must agree and do not.

    `locks` has the requirements of each service's lock, `name==version`, perhaps with a marker. `together` are the
    services that one environment tests, so it can have only one version of each of their packages.
    """
    agreements = (*FIXED, Agreement(tuple(together), "one environment tests both"))
    versions = {service: _versions(requirements) for service, requirements in locks.items()}
    return list(dict.fromkeys(line for agreement in agreements for line in _broken(agreement, versions)))


def _broken(agreement: Agreement, versions: Mapping[str, Mapping[str, frozenset[str]]]) -> Iterator[str]:
    for one, other in combinations(agreement.services, 2):
        for name in sorted(agreement.packages or versions[one].keys() & versions[other].keys()):
            mine, theirs = versions[one].get(name, frozenset()), versions[other].get(name, frozenset())
            if mine != theirs:
                yield f"{name} is {_text(mine)} in {one} and {_text(theirs)} in {other}: {agreement.why}"


def _text(versions: frozenset[str]) -> str:
    return " or ".join(sorted(versions)) or "absent"


def _versions(requirements: Iterable[str]) -> dict[str, frozenset[str]]:
    """Versions of each package. A package may have several, each for other versions of Python."""
    versions: dict[str, frozenset[str]] = {}
    for requirement in requirements:
        name, version = requirement.partition(" ;")[0].split("==")
        versions[name] = versions.get(name, frozenset()) | {version}
    return versions
