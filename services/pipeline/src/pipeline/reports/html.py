"""Renders the templates of this package. Pages load nothing from elsewhere, so MLflow shows them as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _dollars(value: float | None) -> str:
    return "" if value is None else f"${value:,.0f}"


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"number": _number, "dollars": _dollars}


def render(template: str, **values: Any) -> str:
    """Render a template. All values are escaped."""
    return _environment.get_template(template).render(**values)
