"""Reads the JSON schemas of the fields of a listing, which the predictor sends."""

from __future__ import annotations

from datetime import date

from ui.predictor import Json

OLDEST = date(1900, 1, 1)  # of the inputs for dates


def variants(field: Json) -> list[Json]:
    """The schemas of a field, one per type that it accepts."""
    return list(field.get("anyOf", [field]))


def kinds(field: Json) -> set[str]:
    """Formats and types that a field accepts, such as `date`, `string` or `number`."""
    return {str(variant.get("format", variant.get("type"))) for variant in variants(field)}


def example(field: Json) -> int | float | str | None:
    """The example of a field."""
    first: int | float | str | None = next(iter(field.get("examples", [])), None)
    return first


def titles(fields: Json) -> dict[str, str]:
    """Title of each field, by name."""
    return {name: field.get("title", name) for name, field in fields.items()}


def is_whole(field: Json) -> bool:
    """Whether people enter whole numbers, such as rooms."""
    return isinstance(example(field), int)


def limit(field: Json, end: str) -> float | None:
    """The `minimum` or `maximum` of a number, in the type of its input; None without a limit."""
    number = next((variant[end] for variant in variants(field) if end in variant), None)
    return number if number is None else int(number) if is_whole(field) else float(number)
