"""Settings of the data source, read once from the environment."""

from __future__ import annotations

from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings


class DatasourceSettings(BaseSettings):
    """Settings of the chart's `config`. Every field has a default, so that the program also starts without a chart."""

    house_recording_dir: str = Field("", description="folder of recorded listings; empty: synthetic listings")
    batches: str = Field(
        "", pattern=r"^(\d+(,\d+)*)?$", description="batches to serve, in this order; example: 0,3; empty: all"
    )
    scale: float = Field(1.0, gt=0, le=1, description="fraction of each batch's rows")
    latency_scale: float = Field(1.0, ge=0, description="1: as slow as the real service; 0: no delay")
    admin_enabled: bool = Field(False, description="serve POST /admin/faults")
    seed: int = Field(20251105, ge=0, description="seed of all random values")


@cache
def settings() -> DatasourceSettings:
    """The settings of this process."""
    return DatasourceSettings()
