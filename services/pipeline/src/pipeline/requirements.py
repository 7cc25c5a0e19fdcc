"""What an environment needs to run a model: every package, with the version that is here."""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# what core.pyfunc imports, and MLflow to call it
DIRECT = ("lightgbm", "mlflow-skinny", "numpy", "pandas", "polars")


def pinned(direct: tuple[str, ...] = DIRECT) -> list[str]:
    """Lines of a requirements.txt: these packages and, transitively, all that they need on a machine like this one."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [(canonicalize_name(name), "") for name in direct]  # package and extra
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        here = distribution(name)
        found[name] = here.version
        for needed in map(Requirement, here.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(needed.name), part) for part in ("", *needed.extras)]
    return [f"{name}=={version}" for name, version in sorted(found.items())]
