"""Settings of the predictor, from environment variables.

The chart sets them: `fastapi.config` and the Secret `fastapi` for the service, `fastapi.batch.s3Endpoint` and the
Secret `fastapi-batch` for a batch job, which also gets the keys LEDGER_DSN and MLFLOW_TRACKING_PASSWORD of the Secret
`fastapi`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from predictor.serving import loading_test


class ModelSettings(BaseSettings):
    """Where models come from, and the limits of the test that a new model has to pass."""

    model_name: str
    model_alias: str
    mlflow_tracking_uri: str
    mlflow_tracking_username: str = ""  # without a user, requests have no login
    mlflow_tracking_password: str = Field(default="", repr=False, json_schema_extra={"secret": "fastapi"})
    ledger_dsn: str = Field(json_schema_extra={"secret": "fastapi"})  # has the hashes that models must have
    bundle_dir: Path = Path("/tmp/bundles")  # noqa: S108  # an emptyDir of the pod: no other user can write to it
    max_bundle_bytes: int = Field(default=67_108_864, gt=0)
    # limits of the loading test; their names give the environment variables TRIAL_SECONDS and TRIAL_MEMORY_BYTES
    trial_seconds: float = Field(default=loading_test.SECONDS, gt=0)
    trial_memory_bytes: int = Field(default=loading_test.MEMORY_BYTES, gt=0)

    @property
    def mlflow_login(self) -> tuple[str, str]:
        """User and password for MLflow."""
        return self.mlflow_tracking_username, self.mlflow_tracking_password


class BatchSettings(ModelSettings):
    """Settings of `python -m predictor batch`, read once at its start."""

    s3_endpoint: str = ""  # empty if input and output are files
    s3_access_key: str = Field(default="", repr=False, json_schema_extra={"secret": "fastapi-batch"})
    s3_secret_key: str = Field(default="", repr=False, json_schema_extra={"secret": "fastapi-batch"})


class PredictorSettings(ModelSettings):
    """Settings of the service, read once at its start."""

    peers: str = ""  # URL of a headless Service that resolves to all pods; empty: never ask other pods for a model
    poll_seconds: float = Field(default=5, gt=0)
    max_listings: int = Field(default=10_000, gt=0)
    max_explained: int = Field(default=20, gt=0)
    max_body_bytes: int = Field(default=10_240_000, gt=0)
    max_bodies_bytes: int = Field(default=40_960_000, gt=0)  # of the bodies of all requests in flight
    body_seconds: float = Field(default=10, gt=0)  # to receive a body
    max_in_flight: int = Field(default=64, ge=0)  # 0: no limit
    prediction_log: bool = True
    prediction_log_retention_days: int = Field(default=90, gt=0)
    prediction_log_max_bytes: int = Field(default=1_073_741_824, ge=0)  # of predictions in the ledger; 0: no limit
    prediction_log_queue_bytes: int = Field(default=16_777_216, gt=0)
    prediction_log_dir: Path = Path("/tmp/predictions")  # noqa: S108  # as for bundle_dir
    prediction_log_spill_bytes: int = Field(default=268_435_456, ge=0)
    shadow_share: float = Field(default=0, ge=0, le=1)  # 0: off
    shadow_alias: str = "challenger"
    require_api_key: bool = False
    client_keys_dir: Path | None = None  # one file per client; the chart mounts the Secret `fastapi-clients`
    client_requests_per_second: float = Field(default=100, ge=0)  # of each client, in this process; 0: no limit
    api_keys: str = Field(default="", repr=False, json_schema_extra={"secret": "fastapi"})  # separated by commas
    admin_key: str = Field(default="", repr=False, json_schema_extra={"secret": "fastapi"})
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # origin of the running code; the chart takes these values from the images file
    commit: str = "unknown"
    image_tag: str = ""
    image_digest: str = ""

    @field_validator("max_bodies_bytes")
    @classmethod
    def _has_room_for_one_body(cls, total: int, others: ValidationInfo) -> int:
        if total < others.data.get("max_body_bytes", 0):
            raise ValueError("it must be at least maxBodyBytes, or a body of that size would never be accepted")
        return total

    @field_validator("shadow_alias")
    @classmethod
    def _differs_from_model_alias(cls, alias: str, others: ValidationInfo) -> str:
        if alias == others.data.get("model_alias"):
            raise ValueError("it must differ from the alias of the champion")
        return alias
