"""Settings come from the environment, are read once, and fail with a sentence that says where to put them right."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from core.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseSettings)


def chart_key(field: str) -> str:
    """The values key behind a field: `data_api_url` is `dataApiUrl`."""
    head, *rest = field.split("_")
    return head + "".join(word.capitalize() for word in rest)


def load(kind: type[Settings], chart: str) -> Settings:
    """Read the settings of a program; `chart` is the values path of its config, as `fastapi.config`.

    Raises:
        SettingsError: names every variable that is missing or wrong, and the chart value behind it.
    """
    try:
        return kind()
    except ValidationError as invalid:
        told = [
            f"{str(error['loc'][0]).upper()} (chart: {chart}.{chart_key(str(error['loc'][0]))}): {error['msg'].lower()}"
            for error in invalid.errors()
        ]
        raise SettingsError("set these environment variables: " + "; ".join(told)) from invalid
