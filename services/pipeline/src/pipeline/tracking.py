"""MLflow as the stages use it: runs, artifacts, registered versions. The only module that imports it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.logging_utils import disable_logging

import core
from core.bundle import Bundle, load_bundle
from core.errors import RegistryError
from core.registry import RegistryClient
from pipeline.requirements import pinned
from pipeline.settings import PipelineSettings

EVALUATION = "evaluation.json"
DECISION = "decision"  # .json and .html
REPORT = "report.html"  # in the run of the decision
FAILURES = (MlflowException, OSError)  # what MLflow's client raises; those of HTTP are an OSError


_CONTENT = "batch_sha256."  # and the number: a tag per batch
_OF_THE_RUN = ("dag_run", "model_uri", "reason")  # tags that say nothing of a version, or something else


def contents(tags: Mapping[str, str]) -> dict[int, str]:
    """Content hash of each batch that a run with these tags was trained on, by its number."""
    found = {name.removeprefix(_CONTENT): text for name, text in tags.items() if name.startswith(_CONTENT)}
    return {int(number): found[number] for number in sorted(found, key=int)}


def lineage_tags(batches: Mapping[int, str], decision_run: str | None) -> dict[str, str]:
    """Tags that name the content of each batch, and the run that holds the decision and, later, the report."""
    tags = {"batches": ",".join(map(str, batches))}
    tags |= {f"{_CONTENT}{number}": sha256 for number, sha256 in batches.items()}
    if decision_run:
        tags |= {"decision_run": decision_run, "report": f"runs:/{decision_run}/{REPORT}"}
    return tags


def version_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those tags of a training's run that say where its model comes from."""
    return {name: text for name, text in tags.items() if not name.startswith("mlflow.") and name not in _OF_THE_RUN}


class Tracking:
    """One MLflow server, whose version is this client's."""

    def __init__(self, settings: PipelineSettings, registry: RegistryClient) -> None:
        """Connect.

        Raises:
            RegistryError: the server is away, or of another version: an MLflow 3 client calls what a 2.x server lacks.
        """
        self._settings = settings
        self._registry = registry
        registry.check_server(exact=True)
        mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
        self._client = mlflow.MlflowClient()

    def start_run(self, name: str, tags: dict[str, str]) -> Any:
        """Begin a run, as a context manager; one that an interrupted try of the same name left open is closed."""
        experiment = mlflow.set_experiment(self._settings.experiment_name)
        left = self._client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        for run in left:
            if run.data.tags.get("dag_run") == tags["dag_run"] and run.info.run_name == name:
                self._client.set_terminated(run.info.run_id, "KILLED")
        return mlflow.start_run(run_name=name, tags=tags)

    def log_decision(self, name: str, tags: dict[str, str], evidence: dict[str, Any], texts: dict[str, str]) -> str:
        """Log a decision as a run of its own, with its evidence and texts by the name of their file; return its id.

        A decision on the same content that an interrupted try logged is written over.
        """
        known = self.decision_run(tags["batch"], tags["sha256"])
        with mlflow.start_run(run_id=known, run_name=name, tags=tags) as active:
            figures = {
                f"{figure}_{column['column'].replace(' ', '_')}": column[figure]
                for column in evidence["columns"]
                for figure in ("psi", "ks", "unseen")
                if column[figure] is not None
            }
            if evidence["champion"] and evidence["champion"]["mae"] is not None:
                figures["champion_mae"] = evidence["champion"]["mae"]
            mlflow.log_metrics(figures)
            mlflow.log_dict(evidence, f"{DECISION}.json")
            self.log_texts(texts)
            return str(active.info.run_id)

    def decision_run(self, batch: str, sha256: str) -> str | None:
        """The run that holds the decision on a batch's content."""
        experiment = mlflow.set_experiment(self._settings.experiment_name)
        same = f"tags.stage = 'decide' and tags.batch = '{batch}' and tags.sha256 = '{sha256}'"
        known = self._client.search_runs([experiment.experiment_id], same, max_results=1)
        return str(known[0].info.run_id) if known else None

    def log_training(self, params: dict[str, Any], scores: dict[str, dict[str, float]], notes: dict[str, Any]) -> None:
        """Log to the open run: parameters, `train_mae` and the like, and one JSON file per note."""
        mlflow.log_params(params)
        mlflow.log_metrics({f"{split}_{name}": value for split, part in scores.items() for name, value in part.items()})
        for name, content in notes.items():
            mlflow.log_dict(content, f"{name}.json")

    def log_texts(self, texts: dict[str, str]) -> None:
        """Log to the open run: texts by the name of their file."""
        for name, text in texts.items():
            mlflow.log_text(text, name)

    def log_bundle(self, folder: Path, manifest_sha256: str) -> None:
        """Log a bundle to the open run as a model that `mlflow.pyfunc.load_model` loads; no pickle.

        With it go this code's `core` and the versions of all that it needs: an environment of nothing else runs it.
        """
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module="core.pyfunc",
            data_path=str(folder),
            code_paths=[str(Path(core.__file__).parent)],
            pip_requirements=pinned(),
        )
        mlflow.set_tags({"model_uri": logged.model_uri, "manifest_sha256": manifest_sha256})

    def run(self, run_id: str) -> Run:
        """A run.

        Raises:
            RegistryError: there is none.
        """
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            raise RegistryError(f"MLflow has no run {run_id}: {error.message}") from error

    def bundle(self, run_id: str) -> Bundle:
        """The bundle that a run logged."""
        uri = self.run(run_id).data.tags.get("model_uri")
        if not uri:
            raise RegistryError(f"run {run_id} logged no model: run train again")
        location = self._client.get_logged_model(uri.rpartition("/")[2]).artifact_location
        with tempfile.TemporaryDirectory() as folder:
            self._registry.download_from(location, Path(folder))
            return load_bundle(Path(folder))

    def log_evaluation(self, run_id: str, evaluation: dict[str, Any]) -> None:
        """Add an evaluation to a finished run; done again it replaces the one before."""
        for who in ("challenger", "champion"):
            for name, value in (evaluation[who] or {}).items():
                self._client.log_metric(run_id, f"holdout_{who}_{name}", value)
        self._client.log_dict(run_id, evaluation, EVALUATION)

    def log_page(self, run_id: str, name: str, page: str) -> None:
        """Add a page to a finished run; done again it replaces the one before."""
        self._client.log_text(run_id, page, name)

    def find_evaluation(self, run_id: str) -> dict[str, Any] | None:
        """The evaluation of a run; None if there is none yet."""
        if not any(item.path == EVALUATION for item in self._client.list_artifacts(run_id)):
            return None
        found: dict[str, Any] = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{EVALUATION}"))
        return found

    def evaluation(self, run_id: str) -> dict[str, Any]:
        """The evaluation of a run.

        Raises:
            RegistryError: there is none.
        """
        found = self.find_evaluation(run_id)
        if found is None:
            raise RegistryError(f"run {run_id} has no {EVALUATION}: run evaluate before")
        return found

    def register(self, run_id: str, tags: dict[str, str]) -> str:
        """Register a run's model and return its version; registered before, that version."""
        name = self._settings.model_name
        known = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        if known:
            return str(known[0].version)
        uri = self.run(run_id).data.tags["model_uri"]
        return str(mlflow.register_model(uri, name, tags=tags).version)

    def version(self, version: str) -> ModelVersion:
        """A registered version.

        Raises:
            RegistryError: there is none of that number.
        """
        name = self._settings.model_name
        try:
            return self._client.get_model_version(name, version)
        except MlflowException as missing:
            raise RegistryError(f"{name} has no version {version}: {missing.message}") from missing

    def tag_version(self, version: str, **tags: str) -> None:
        """Set tags of a registered version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._settings.model_name, version, key, value)

    def set_alias(self, version: str) -> None:
        """Let the alias name this version: from now on it is the champion."""
        self._client.set_registered_model_alias(self._settings.model_name, self._settings.model_alias, version)

    def set_challenger(self, version: str | None) -> None:
        """Let the other alias name this version, or none: predictors price with it beside the champion."""
        name, alias = self._settings.model_name, self._settings.shadow_alias
        if version is None:
            self._client.delete_registered_model_alias(name, alias)
        else:
            self._client.set_registered_model_alias(name, alias, version)


class Rehearsal(Tracking):
    """Tracking under names of its own, made of the real ones, under which everything can be forgotten."""

    def __init__(self, settings: PipelineSettings, registry: RegistryClient) -> None:
        """As `Tracking`; from then on MLflow's client prints nothing of its own."""
        disable_logging()  # type: ignore[no-untyped-call]
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        own = {name: f"{getattr(settings, name)}-smoke" for name in ("model_name", "experiment_name")}
        super().__init__(settings.model_copy(update=own), registry)

    @property
    def model_name(self) -> str:
        """Name of its registered model."""
        return self._settings.model_name

    def forget(self) -> None:
        """Remove the registered model, and runs and logged models with their artifacts; the experiment stays, empty.

        MLflow keeps the rows of what was deleted until `mlflow gc`.
        """
        name = self._settings.model_name
        if self._client.search_registered_models(f"name = '{name}'"):
            self._client.delete_registered_model(name)
        experiment = mlflow.set_experiment(self._settings.experiment_name).experiment_id
        for model in self._client.search_logged_models([experiment]):
            _delete(model.artifact_location)
            self._client.delete_logged_model(model.model_id)
        for run in self._client.search_runs([experiment]):
            _delete(run.info.artifact_uri)
            self._client.delete_run(run.info.run_id)


def _delete(artifacts: str) -> None:
    get_artifact_repository(artifacts).delete_artifacts()  # type: ignore[no-untyped-call]
