"""A missing or wrong setting is a sentence with the variable and the chart value behind it."""

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


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Example.model_fields:
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


def test_every_wrong_setting_is_in_the_same_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIES", "-1")
    monkeypatch.setenv("RATIO", "half")
    with pytest.raises(SettingsError) as told:
        load(Example, "airflow.pipeline.config")
    assert "\n" not in str(told.value)
    for words in (
        "DATA_API_URL (chart: airflow.pipeline.config.dataApiUrl): field required",
        "RETRIES (chart: airflow.pipeline.config.retries): input should be greater than or equal to 0",
        "RATIO (chart: airflow.pipeline.config.ratio)",
    ):
        assert words in str(told.value)
