"""What the predictor reads from its environment.

Chart: `fastapi.config` and the Secret `fastapi`; a batch, `fastapi.batch.s3Endpoint` and the Secret `fastapi-batch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from predictor import trial


class ModelSettings(BaseSettings):
    """Where models come from, and what one may take before it is trusted."""

    model_name: str
    model_alias: str
    mlflow_tracking_uri: str
    bundle_dir: Path = Path("/tmp/bundles")  # noqa: S108  # an emptyDir of the pod, which nobody else can write
    max_bundle_bytes: int = Field(default=67_108_864, gt=0)
    trial_seconds: float = Field(default=trial.SECONDS, gt=0)
    trial_memory_bytes: int = Field(default=trial.MEMORY_BYTES, gt=0)


class BatchSettings(ModelSettings):
    """Read once, when `python -m predictor batch` starts."""

    s3_endpoint: str = ""  # empty where input and output are files
    s3_access_key: str = Field(default="", repr=False)
    s3_secret_key: str = Field(default="", repr=False)


class PredictorSettings(ModelSettings):
    """Read once, when the process starts."""

    ledger_dsn: str
    poll_seconds: float = Field(default=5, gt=0)
    max_listings: int = Field(default=10_000, gt=0)
    max_explained: int = Field(default=20, gt=0)
    max_body_bytes: int = Field(default=10_240_000, gt=0)
    max_in_flight: int = Field(default=64, ge=0)  # 0: no bound
    prediction_log: bool = True
    prediction_log_retention_days: int = Field(default=90, gt=0)
    prediction_log_queue_bytes: int = Field(default=16_777_216, gt=0)
    prediction_log_dir: Path = Path("/tmp/predictions")  # noqa: S108  # as bundle_dir
    prediction_log_spill_bytes: int = Field(default=268_435_456, ge=0)
    shadow_share: float = Field(default=0, ge=0, le=1)  # 0: off
    shadow_alias: str = "challenger"
    require_api_key: bool = False
    # of the Secret; keys are separated by commas
    api_keys: str = Field(default="", repr=False)
    admin_key: str = Field(default="", repr=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # where the running code is from; the chart takes it from the images file
    commit: str = "unknown"
    image_tag: str = ""
    image_digest: str = ""

    @field_validator("shadow_alias")
    @classmethod
    def _is_another(cls, alias: str, others: ValidationInfo) -> str:
        if alias == others.data.get("model_alias"):
            raise ValueError("it is the alias of the version that serves")
        return alias
