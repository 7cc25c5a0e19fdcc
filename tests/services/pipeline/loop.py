"""A pipeline on real PostgreSQL, MLflow and MinIO, run stage by stage."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow

from ci.local.processes import LocalPlatform, StageResult
from core.errors import DataError
from core.model.bundle import Bundle, load_bundle
from pipeline import STAGES
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings
from tests.kit.world import HTTP
from tests.services.conftest import Provisioned

SCALE = 0.01
STAGE = {stage.name: stage for stage in STAGES}
WON = (
    "fetch",
    "validate",
    "split",
    "decide",
    "train",
    "evaluate",
    "promote",
    "report",
)  # the stages of a run with a new champion


@dataclass
class Loop:
    """A pipeline with its own ledger, objects, model and cursor."""

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
        variables = {name.lower(): value for name, value in self.platform.stage_environment(**self.environment).items()}
        names = variables.keys() & PipelineSettings.model_fields
        return Context(PipelineSettings(**{name: variables[name] for name in names}))

    def process(self, name: str, references: dict[str, Any] | None = None) -> StageResult:
        """Run one stage in its own process, as its pod does."""
        return self.platform.run_stage(STAGE[name], references or {}, **self.environment)

    def stage(self, name: str, references: dict[str, Any]) -> dict[str, Any]:
        """Run one stage within this process, which is faster, and return its result."""
        needed = {need: references[need] for need in STAGE[name].needs}
        self.context.ask_again()  # a stage in a process of its own has a context of its own
        result: dict[str, Any] = importlib.import_module(f"pipeline.stages.{name}").run(self.context, **needed)
        return result

    def learn(self) -> int:
        """Run fetch to decide within this process, and return the number of the batch.

        Raises:
            DataError: the data API failed, or the batch was refused.
            SkipRun: the decision is to skip, or there is no new batch.
        """
        batch = self.clean()
        done = self.stage("decide", {"batch": batch})
        if done["next"] == "skip":
            raise SkipRun(done["reason"], batch=batch)
        return batch

    def clean(self) -> int:
        """Run fetch to split within this process, and return the number of the batch.

        Raises:
            DataError: the data API failed, or the batch was refused.
            SkipRun: there is no new batch.
        """
        batch = int(self.stage("fetch", {})["batch"])
        for name in ("validate", "split"):
            self.stage(name, {"batch": batch})
        return batch

    def turn(self) -> str:
        """Run all stages on the next batch within this process, and return the verdict.

        Raises:
            DataError, SkipRun: see `learn`.
        """
        batch = self.learn()
        run_id = self.stage("train", {"batch": batch})["run_id"]
        verdict = self.stage("evaluate", {"run_id": run_id})["next"]
        summary = str(self.stage(verdict, {"run_id": run_id})["summary"])
        self.stage("report", {"batch": batch})
        return summary

    def settle(self) -> int:
        """Run `clean`, and record decision and verdict without a training, so that the next run takes the next batch.

        Nothing is logged to MLflow, which takes most of the time of `learn`.

        Raises:
            DataError, SkipRun: see `clean`.
        """
        batch, ledger = self.clean(), self.context.ledger
        ledger.decide(ledger.batch(batch), "train", "recorded by a test", {})
        ledger.add_training(f"{self.name}-{batch}", batch, ledger.trainable_batches(), 1, "none", {}, "")
        ledger.add_promotion(f"{self.name}-{batch}", "0", False, "not trained", None, {})
        return batch

    def drain(self) -> list[str]:
        """Run `settle` until the data API has no more data. Returns the messages of all errors and skips, in order."""
        messages: list[str] = []
        while not messages or "no more data" not in messages[-1]:
            try:
                self.settle()
            except (DataError, SkipRun) as error:
                messages.append(str(error))
        return messages

    def restart(self) -> None:
        """Move the cursor of the data API back to the first batch."""
        query = {"group_number": "1", "day": self.name}
        HTTP.get(f"{self.platform.datasource_url}/restart_data_generation", params=query).raise_for_status()

    def champion(self) -> str | None:
        version = self.context.registry.version_by_alias(self.name, "champion")
        return version.version if version else None

    def bundle(self, folder: Path) -> Bundle:
        """The bundle of the champion, loaded as the predictor loads it."""
        version = self.context.registry.version_by_alias(self.name, "champion")
        assert version is not None
        self.context.registry.download(version, folder)
        return load_bundle(folder)

    def everything(self) -> dict[str, Any]:
        """Everything that the stages wrote: ledger, objects, runs, versions, alias."""
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
