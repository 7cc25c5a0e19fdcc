"""What the pages read from their environment (chart: `streamlit.config`)."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings


class UiSettings(BaseSettings):
    """Read once, when the process starts. An empty link is not shown."""

    predictor_url: str
    predictor_api_keys: str = Field(default="", repr=False)  # of the Secret; the first one is used
    airflow_url: str = ""
    mlflow_url: str = ""
    grafana_url: str = ""


def load() -> UiSettings:
    """The settings of this process.

    Raises:
        ValueError: one is missing; the text names the variable and the chart value behind it.
    """
    try:
        return UiSettings()
    except ValidationError as invalid:
        name = str(invalid.errors()[0]["loc"][0])
        head, *tail = name.split("_")
        value = "streamlit.config." + head + "".join(word.capitalize() for word in tail)
        raise ValueError(f"{name.upper()} is not set: set the chart value {value}") from invalid
