"""Environments: each is a file values/<env>.yaml."""

from __future__ import annotations

from pathlib import Path

import yaml

from ci.common.console import Failure
from ci.common.paths import CHECKOUT


def environments(checkout: Path = CHECKOUT) -> list[str]:
    """Names of all environments, sorted."""
    return sorted(path.stem for path in (checkout / "values").glob("*.yaml") if not path.stem.startswith("images-"))


def known_env(name: str, checkout: Path = CHECKOUT) -> str:
    """Return the name if the environment exists. This is the type of every option `--env`.

    Raises:
        Failure: there is no such environment. The text lists all environments.
    """
    names = environments(checkout)
    if name not in names:
        raise Failure(f"unknown environment {name!r}; values/ has {', '.join(names)}")
    return name


def names_nodes(env: str, checkout: Path = CHECKOUT) -> bool:
    """Whether values/<env>.yaml has the addresses of the nodes, so that they need not be read from the cluster."""
    values = yaml.safe_load((checkout / "values" / f"{env}.yaml").read_text()) or {}
    return bool(values.get("global", {}).get("nodes", {}).get("cidr"))
