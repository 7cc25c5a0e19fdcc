"""Lists the packages that an environment needs to run a model, pinned to the installed versions."""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# core.pyfunc imports these; MLflow calls it
DIRECT = ("lightgbm", "mlflow-skinny", "numpy", "pandas", "polars")


def pinned(direct: tuple[str, ...] = DIRECT) -> list[str]:
    """Lines of a requirements.txt: these packages and their transitive dependencies on this platform."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [(canonicalize_name(name), "") for name in direct]  # package and extra
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        installed = distribution(name)
        versions[name] = installed.version
        for requirement in map(Requirement, installed.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(requirement.name), part) for part in ("", *requirement.extras)]
    return [f"{name}=={version}" for name, version in sorted(versions.items())]
