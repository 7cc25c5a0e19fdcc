"""Loads settings from the environment. An error names the variable and the chart value or Secret that sets it."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from core.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseSettings)


def chart_key(field: str) -> str:
    """The chart's values key of a setting. Example: `data_api_url` is `dataApiUrl`."""
    head, *rest = field.split("_")
    return head + "".join(word.capitalize() for word in rest)


def source(kind: type[BaseSettings], field: str, chart: str) -> str:
    """The chart value that sets a field, or its Secret and key.

    A field from a Secret declares the name of the Secret: `Field(json_schema_extra={"secret": "fastapi"})`. The key in
    the Secret is the name of the variable.
    """
    declared = kind.model_fields[field].json_schema_extra if field in kind.model_fields else None
    if isinstance(declared, dict) and "secret" in declared:
        return f"Secret {declared['secret']}, key {field.upper()}"
    return f"chart: {chart}.{chart_key(field)}"


def load(kind: type[Settings], chart: str) -> Settings:
    """Read the settings of a program. `chart` is the path of its config in the values. Example: `fastapi.config`.

    Raises:
        SettingsError: names every variable that is missing or invalid, and the chart value or Secret that sets it.
    """
    try:
        return kind()
    except ValidationError as invalid:
        problems = [
            f"{field.upper()} ({source(kind, field, chart)}): {error['msg'].lower()}"
            for error in invalid.errors()
            for field in [str(error["loc"][0])]
        ]
        raise SettingsError("set these environment variables: " + "; ".join(problems)) from invalid
