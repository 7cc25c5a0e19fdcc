"""Environments by name: each is a file values/<env>.yaml."""

from __future__ import annotations

from pathlib import Path

from ci.console import Failure
from ci.paths import CHECKOUT


def known_env(name: str, checkout: Path = CHECKOUT) -> str:
    """The name, if there is such an environment; the type of every option `--env`.

    Raises:
        Failure: there is none; the text says which there are.
    """
    known = sorted(path.stem for path in (checkout / "values").glob("*.yaml") if not path.stem.startswith("images-"))
    if name not in known:
        raise Failure(f"there is no environment {name!r}; values/ has {', '.join(known)}")
    return name
