"""Settings of the stages, from their environment (chart: `airflow.pipeline.config`, Secret `pipeline`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings


class PipelineSettings(BaseSettings):
    """Read once, when a stage starts. Settings that depend on the deployment have no default."""

    # two platforms that use one ledger need different names, so that the second one is refused
    platform_name: str = Field(default="local", min_length=1)
    data_api_url: str
    data_api_group: int = Field(default=1, ge=1)
    data_api_day: str = "Tuesday"
    data_api_timeout_seconds: float = Field(default=300, gt=0)  # between two bytes of the answer; the service is slow
    data_api_total_seconds: float = Field(default=1800, gt=0)  # for a whole answer
    data_api_max_bytes: int = Field(default=536_870_912, gt=0)  # of a whole answer, decompressed
    data_uri: str
    s3_endpoint: str = ""  # empty if data_uri is a folder
    s3_access_key: str = Field(default="", json_schema_extra={"secret": "pipeline"})
    s3_secret_key: str = Field(default="", json_schema_extra={"secret": "pipeline"})
    ledger_dsn: str = Field(json_schema_extra={"secret": "pipeline"})
    mlflow_tracking_uri: str
    # MLflow's client reads these two variables itself; without a user, requests have no login
    mlflow_tracking_username: str = ""
    mlflow_tracking_password: str = Field(default="", repr=False, json_schema_extra={"secret": "pipeline"})
    model_name: str = "house-price"
    model_alias: str = "champion"
    shadow_alias: str = "challenger"
    experiment_name: str = "house-price"
    component_wait_seconds: float = Field(default=900, ge=0)  # for the object store, the ledger or MLflow
    # retention of bundles in MLflow
    model_retention_days: int = Field(default=90, ge=1)
    kept_champions: int = Field(default=10, ge=1)
    # policy of decide: a training needs enough rows
    min_batch_rows: int = Field(default=10_000, ge=1)
    min_batch_states: int = Field(default=5, ge=1)
    min_state_share: float = Field(default=0.25, ge=0, le=1)
    # and one of these limits exceeded
    max_psi: float = Field(default=0.2, gt=0)
    max_ks: float = Field(default=0.2, gt=0, le=1)
    max_unseen: float = Field(default=0.1, ge=0, le=1)
    max_mae_rise: float = Field(default=0.1, ge=0)
    max_unused_share: float = Field(default=0.5, ge=0, le=1)
    # promotion gate
    min_mae_gain: float = Field(default=0.03, ge=0, lt=1)
    min_sure_gain: float = Field(default=0, ge=0, lt=1)
    gain_confidence: float = Field(default=0.95, gt=0.5, lt=1)
    max_rmse_loss: float = Field(default=0.01, ge=0)
    max_segment_loss: float = Field(default=0.10, ge=0)
    min_segment_rows: int = Field(default=500, ge=1)
    # rows to train on
    training_mode: Literal["full", "continue", "window"] = "full"
    training_window: int = Field(default=3, ge=1)
    training_search_trials: int = Field(default=0, ge=0)
    # LightGBM; `python -m tests.bench.search` found the seven values after num_boost_round
    num_boost_round: int = Field(default=1500, ge=1)
    learning_rate: float = Field(default=0.089, gt=0)
    num_leaves: int = Field(default=9, ge=2)
    min_data_in_leaf: int = Field(default=15, ge=1)
    feature_fraction: float = Field(default=0.577, gt=0, le=1)
    bagging_fraction: float = Field(default=0.761, gt=0, le=1)
    lambda_l2: float = Field(default=3.49, ge=0)
    huber_alpha: float = Field(default=0.0917, gt=0)
    early_stopping_rounds: int = Field(default=60, ge=1)
    seed: int = Field(default=7, ge=0)
    num_threads: int = Field(default=2, ge=1)

    @field_validator("shadow_alias")
    @classmethod
    def _differs_from_champion(cls, alias: str, others: ValidationInfo) -> str:
        if alias == others.data.get("model_alias"):
            raise ValueError(
                "it is the alias of the champion, so a version in the shadow would serve; choose another alias"
            )
        return alias

    @property
    def mlflow_login(self) -> tuple[str, str]:
        """User and password for MLflow."""
        return self.mlflow_tracking_username, self.mlflow_tracking_password
