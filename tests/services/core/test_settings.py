"""The error about a missing or invalid setting names the variable and the chart value or Secret that sets it."""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from core.errors import SettingsError
from core.settings import chart_key, load


class Example(BaseSettings):
    data_api_url: str
    retries: int = Field(default=3, ge=0)
    ratio: float = 0.5


class ExampleWithSecret(Example):
    ledger_dsn: str = Field(json_schema_extra={"secret": "pipeline"})


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ExampleWithSecret.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("field", "key"), [("data_api_url", "dataApiUrl"), ("retries", "retries"), ("s3_endpoint", "s3Endpoint")]
)
def test_chart_key_is_the_field_in_camel_case(field: str, key: str) -> None:
    assert chart_key(field) == key


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_API_URL", "http://api")
    monkeypatch.setenv("RETRIES", "5")
    assert load(Example, "x.config") == Example.model_construct(data_api_url="http://api", retries=5, ratio=0.5)


def test_one_message_names_every_invalid_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIES", "-1")
    monkeypatch.setenv("RATIO", "half")
    with pytest.raises(SettingsError) as raised:
        load(Example, "airflow.pipeline.config")
    assert "\n" not in str(raised.value)
    for words in (
        "DATA_API_URL (chart: airflow.pipeline.config.dataApiUrl): field required",
        "RETRIES (chart: airflow.pipeline.config.retries): input should be greater than or equal to 0",
        "RATIO (chart: airflow.pipeline.config.ratio)",
    ):
        assert words in str(raised.value)


def test_message_names_the_secret_and_key_of_a_setting_from_a_secret() -> None:
    with pytest.raises(SettingsError) as raised:
        load(ExampleWithSecret, "airflow.pipeline.config")
    assert "LEDGER_DSN (Secret pipeline, key LEDGER_DSN): field required" in str(raised.value)
    assert "DATA_API_URL (chart: airflow.pipeline.config.dataApiUrl): field required" in str(raised.value)
