"""A learning path on real PostgreSQL, MLflow and MinIO, driven stage by stage."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import mlflow

from ci.local import LocalPlatform, StageResult
from core.bundle import Bundle, load_bundle
from core.errors import DataError
from pipeline import STAGES
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings
from tests.services.conftest import Provisioned

SCALE = 0.01
STAGE = {stage.name: stage for stage in STAGES}
WON = ("fetch", "validate", "split", "decide", "train", "evaluate", "promote", "report")  # the way of a new champion


@dataclass
class Loop:
    """A learning path of its own: ledger, objects, model and cursor."""

    platform: LocalPlatform
    minio: Provisioned
    name: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        access, secret = self.minio.keys["pipeline"]
        return {
            "data_api_day": self.name,
            "data_uri": f"s3://house-data/{self.name}",
            "s3_endpoint": self.minio.server.endpoint,
            "s3_access_key": access,
            "s3_secret_key": secret,
            "ledger_dsn": self.platform.database(self.name),
            "model_name": self.name,
            "experiment_name": self.name,
            "min_batch_rows": "200",
            "num_boost_round": "60",
        } | self.settings

    @cached_property
    def context(self) -> Context:
        told = {name.lower(): value for name, value in self.platform.stage_environment(**self.environment).items()}
        return Context(PipelineSettings(**{name: told[name] for name in told.keys() & PipelineSettings.model_fields}))

    def process(self, name: str, references: dict[str, Any] | None = None) -> StageResult:
        """Run one stage as its pod does."""
        return self.platform.run_stage(STAGE[name], references or {}, **self.environment)

    def stage(self, name: str, references: dict[str, Any]) -> dict[str, Any]:
        """Run one stage within this process, which is quicker; gives its result."""
        needed = {need: references[need] for need in STAGE[name].needs}
        result: dict[str, Any] = importlib.import_module(f"pipeline.{name}").run(self.context, **needed)
        return result

    def learn(self) -> int:
        """Fetch to decide, within this process: all that comes before a training. Gives the batch's number.

        Raises:
            DataError: the data API failed, or the batch is refused.
            SkipRun: the decision is to skip, or there is no new batch.
        """
        batch = self.stage("fetch", {})["batch"]
        for name in ("validate", "split", "decide"):
            done = self.stage(name, {"batch": batch})
        if done["next"] == "skip":
            raise SkipRun(done["reason"], batch=batch)
        return int(batch)

    def turn(self) -> str:
        """All stages on the next batch, within this process; gives the verdict.

        Raises:
            DataError, SkipRun: as `learn`.
        """
        batch = self.learn()
        run_id = self.stage("train", {"batch": batch})["run_id"]
        verdict = self.stage("evaluate", {"run_id": run_id})["next"]
        summary = str(self.stage(verdict, {"run_id": run_id})["summary"])
        self.stage("report", {"batch": batch})
        return summary

    def drain(self) -> list[str]:
        """Learn until the data API has no more; gives what went otherwise than to a training, in order."""
        told: list[str] = []
        while not told or "no more data" not in told[-1]:
            try:
                self.learn()
            except (DataError, SkipRun) as error:
                told.append(str(error))
        return told

    def restart(self) -> None:
        """Put the data API's cursor back to the first batch."""
        who = {"group_number": "1", "day": self.name}
        httpx.get(f"{self.platform.datasource_url}/restart_data_generation", params=who).raise_for_status()

    def champion(self) -> str | None:
        found = self.context.registry.champion(self.name, "champion")
        return found.version if found else None

    def bundle(self, folder: Path) -> Bundle:
        """The champion's, as the predictor loads it."""
        found = self.context.registry.champion(self.name, "champion")
        assert found is not None
        self.context.registry.download(found, folder)
        return load_bundle(folder)

    def everything(self) -> dict[str, Any]:
        """All that the stages wrote anywhere."""
        mlflow.set_tracking_uri(self.platform.mlflow_url)
        client = mlflow.MlflowClient()
        runs = mlflow.search_runs(experiment_names=[self.name], output_format="list")
        store = self.context.store
        return {
            "ledger": self.context.ledger.history(),
            "gaps": self.context.ledger.gaps(),
            "objects": {key: hash(store.get(key)) for key in store.keys("")},
            "runs": {run.info.run_id: (run.info.status, run.data.metrics, run.data.params) for run in runs},
            "versions": {v.version: v.tags for v in client.search_model_versions(f"name = '{self.name}'")},
            "champion": self.champion(),
        }
