"""What the predictor reads from its environment (chart: `fastapi.config`, Secret `fastapi`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from predictor import trial


class PredictorSettings(BaseSettings):
    """Read once, when the process starts."""

    model_name: str
    model_alias: str
    mlflow_tracking_uri: str
    ledger_dsn: str
    poll_seconds: float = Field(default=5, gt=0)
    max_listings: int = Field(default=10_000, gt=0)
    max_explained: int = Field(default=20, gt=0)
    max_body_bytes: int = Field(default=10_240_000, gt=0)
    max_in_flight: int = Field(default=64, ge=0)  # 0: no bound
    bundle_dir: Path = Path("/tmp/bundles")  # noqa: S108  # an emptyDir of the pod, which nobody else can write
    max_bundle_bytes: int = Field(default=67_108_864, gt=0)
    trial_seconds: float = Field(default=trial.SECONDS, gt=0)
    trial_memory_bytes: int = Field(default=trial.MEMORY_BYTES, gt=0)
    prediction_log: bool = True
    prediction_log_retention_days: int = Field(default=90, gt=0)
    prediction_log_queue_bytes: int = Field(default=16_777_216, gt=0)
    prediction_log_dir: Path = Path("/tmp/predictions")  # noqa: S108  # as bundle_dir
    prediction_log_spill_bytes: int = Field(default=268_435_456, ge=0)
    require_api_key: bool = False
    # of the Secret; keys are separated by commas
    api_keys: str = Field(default="", repr=False)
    admin_key: str = Field(default="", repr=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # where the running code is from; the chart takes it from the images file
    commit: str = "unknown"
    image_tag: str = ""
    image_digest: str = ""
