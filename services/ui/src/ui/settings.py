"""Settings of the pages, from the environment (chart: `streamlit.config`)."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings


class UiSettings(BaseSettings):
    """Settings, read once when the process starts. Links and pages with an empty address are not shown."""

    predictor_url: str
    predictor_api_keys: str = Field(default="", repr=False)  # from the Secret
    airflow_url: str = ""
    mlflow_url: str = ""
    grafana_url: str = ""
    prometheus_url: str = ""

    @property
    def predictor_api_key(self) -> str:
        """The first key, which the pages send; empty if there is none."""
        return self.predictor_api_keys.partition(",")[0].strip()


def load() -> UiSettings:
    """Read the settings of this process.

    Raises:
        ValueError: a setting is missing; the message names the variable and the chart value behind it.
    """
    try:
        return UiSettings()
    except ValidationError as invalid:
        name = str(invalid.errors()[0]["loc"][0])
        head, *tail = name.split("_")
        value = "streamlit.config." + head + "".join(word.capitalize() for word in tail)
        raise ValueError(f"{name.upper()} is not set: set the chart value {value}") from invalid
