"""The `config` values of the charts match the settings classes of the services: the same names and the same defaults.

A chart turns the key `pollSeconds` into the variable `POLL_SECONDS` (`lib.configData`), which pydantic reads into the
field `poll_seconds`. A key without a field has no effect. A field without a key cannot be set by an operator. Two
different defaults make a service behave differently in the cluster and on a laptop.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from ci.deploy.charts import CHARTS
from ci.deploy.secrets import generate
from core.settings import chart_key, source
from datasource.settings import DatasourceSettings
from pipeline.settings import PipelineSettings
from predictor.settings import BatchSettings, PredictorSettings
from tests.kit.rendering import KUBE_API, alone, find, parse
from ui.settings import UiSettings

# Settings class by the path of its values, and the ConfigMap that carries them.
SETTINGS: dict[str, type[BaseSettings]] = {
    "fastapi.config": PredictorSettings,
    "airflow.pipeline.config": PipelineSettings,
    "streamlit.config": UiSettings,
    "datasource.config": DatasourceSettings,
}
CONFIG_MAPS = {
    "fastapi.config": ("fastapi", "mlops"),
    "airflow.pipeline.config": ("pipeline", "mlops-jobs"),
    "streamlit.config": ("streamlit", "mlops"),
    "datasource.config": ("datasource", "mlops"),
}

# Fields that `config` does not set, each with its source.
SET_ELSEWHERE = {
    "fastapi.config": {
        "ledger_dsn": "Secret fastapi: it contains a password",
        "mlflow_tracking_username": "always the user predictor",
        "mlflow_tracking_password": "Secret fastapi",
        "admin_key": "Secret fastapi",
        "api_keys": "Secret fastapi",
        "client_keys_dir": "the Deployment mounts the Secret fastapi-clients there",
        "commit": "the Deployment takes it from the images file",
        "image_tag": "the Deployment takes it from the images file",
        "image_digest": "the Deployment takes it from the images file",
    },
    "airflow.pipeline.config": {
        "ledger_dsn": "Secret pipeline: it contains a password",
        "mlflow_tracking_username": "always the user pipeline",
        "mlflow_tracking_password": "Secret pipeline",
        "s3_access_key": "Secret pipeline",
        "s3_secret_key": "Secret pipeline",
    },
    "streamlit.config": {"predictor_api_keys": "Secret fastapi, key API_KEYS"},
    "datasource.config": {},
}

# Fields whose default in the chart differs from the default in the class, each with the reason.
OTHER_DEFAULTS = {
    "fastapi.config": {
        "peers": "the headless Service exists in the cluster only",
        "bundle_dir": "the chart mounts a volume there",
        "prediction_log_dir": "it lies in the volume of the models",
    },
    "airflow.pipeline.config": {
        "platform_name": "the namespace; a laptop has one platform",
        "s3_endpoint": "MinIO in the cluster; a laptop may use a folder without a server",
    },
    "streamlit.config": {"prometheus_url": "without the cluster, there is no Prometheus and no page of it"},
    "datasource.config": {"latency_scale": "tests in the cluster do not wait; by hand it is as slow as the real API"},
}

each_config = pytest.mark.parametrize("path", SETTINGS)


@cache
def config(path: str) -> dict[str, Any]:
    """The keys and values of a `config` in a chart's values.yaml."""
    chart, *keys = path.split(".")
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    for key in keys:
        values = values[key]
    return dict(values)


@cache
def variables(path: str) -> dict[str, str]:
    """The environment variables that the chart renders from its default values."""
    name, namespace = CONFIG_MAPS[path]
    rendered = parse(alone(path.split(".")[0], *KUBE_API))
    return dict(find(rendered, "ConfigMap", name, namespace)["data"])


def configured(path: str) -> list[str]:
    """The fields of the settings class that the chart's `config` sets."""
    return [field for field in SETTINGS[path].model_fields if field not in SET_ELSEWHERE[path]]


@each_config
def test_every_key_is_a_field_and_every_field_is_a_key(path: str) -> None:
    expected = {chart_key(field) for field in configured(path)}
    without_field, without_key = sorted(config(path).keys() - expected), sorted(expected - config(path).keys())
    kind = SETTINGS[path].__name__
    assert not without_field, f"{path}: {without_field} have no field in {kind}: add the fields or remove the keys"
    assert not without_key, f"{path} lacks {without_key} of {kind}: add the keys, or list the fields in SET_ELSEWHERE"


@each_config
def test_chart_renders_the_variable_that_the_class_reads(path: str) -> None:
    missing = sorted({field.upper() for field in configured(path)} - variables(path).keys())
    assert not missing, f"{path}: the ConfigMap lacks the variables {missing}"


@each_config
def test_defaults_are_valid_and_equal(path: str) -> None:
    """The class accepts what the chart renders, and parses it to its own default."""
    kind = SETTINGS[path]
    inputs: dict[str, Any] = {field: variables(path)[field.upper()] for field in configured(path)}
    inputs |= {field: "secret" for field in SET_ELSEWHERE[path] if kind.model_fields[field].is_required()}
    settings = kind(**inputs)
    for field in configured(path):
        if not kind.model_fields[field].is_required() and field not in OTHER_DEFAULTS[path]:
            in_chart, in_class = getattr(settings, field), kind.model_fields[field].default
            assert in_chart == in_class, (
                f"{path}.{chart_key(field)} is {in_chart!r} in the chart and {in_class!r} in {kind.__name__}: "
                "use one default, or list the field in OTHER_DEFAULTS with a reason"
            )


@each_config
def test_exceptions_are_needed(path: str) -> None:
    """An exception that is not needed any more hides the next mistake."""
    kind = SETTINGS[path]
    unknown = [field for field in {**SET_ELSEWHERE[path], **OTHER_DEFAULTS[path]} if field not in kind.model_fields]
    assert not unknown, f"{kind.__name__} has no fields {unknown}"
    in_config = [field for field in SET_ELSEWHERE[path] if chart_key(field) in config(path)]
    assert not in_config, f"{path} has the keys of {in_config}, which SET_ELSEWHERE lists"
    for field in OTHER_DEFAULTS[path]:
        default = str(kind.model_fields[field].default)
        assert variables(path)[field.upper()] != default, f"{path}: {field} has the same default in chart and class"


def test_batch_reads_the_config_of_the_predictor() -> None:
    """`fastapi-batch` has the ConfigMap of the predictor, an endpoint, a Secret, and two keys of another Secret."""
    # fastapi.batch.s3Endpoint, Secret fastapi-batch, Secret fastapi
    elsewhere = {"s3_endpoint", "s3_access_key", "s3_secret_key", "ledger_dsn"}
    elsewhere |= {"mlflow_tracking_username", "mlflow_tracking_password"}
    assert {
        field for field in BatchSettings.model_fields if chart_key(field) not in config("fastapi.config")
    } == elsewhere


OF_THE_SERVICE = {f"Secret fastapi, key {key}" for key in ("LEDGER_DSN", "MLFLOW_TRACKING_PASSWORD")}


@pytest.mark.parametrize(
    ("kind", "path", "secret", "namespace", "others"),
    [
        (PredictorSettings, "fastapi.config", "fastapi", "mlops", set()),
        (BatchSettings, "fastapi.config", "fastapi-batch", "mlops", OF_THE_SERVICE),
        (PipelineSettings, "airflow.pipeline.config", "pipeline", "mlops-jobs", set()),
    ],
)
def test_fields_from_a_secret_are_its_keys(
    kind: type[BaseSettings], path: str, secret: str, namespace: str, others: set[str]
) -> None:
    """The message for an invalid setting names the Secret and its key, and `make secrets` creates exactly these."""
    named = {source(kind, field, path) for field in kind.model_fields}
    keys = generate("mlops", "mlops-jobs")[namespace, secret]
    assert {name for name in named if name.startswith("Secret ")} == others | {
        f"Secret {secret}, key {key}" for key in keys
    }
