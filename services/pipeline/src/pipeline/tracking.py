"""MLflow for the stages: runs, artifacts, registered versions. Only this module imports MLflow."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import mlflow.pyfunc
from mlflow.entities import Metric, Run, model_registry
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.logging_utils import disable_logging

import core
from core.errors import MissingModelError, RegistryError
from core.model.bundle import Bundle, load_bundle
from core.stores.registry import ABSENT, MANIFEST_TAG, RegistryClient
from pipeline.evaluation.record import Evaluation
from pipeline.settings import PipelineSettings
from pipeline.training.requirements import pinned

if TYPE_CHECKING:  # decision.evidence imports this module
    from pipeline.decision.document import DecisionDocument

EVALUATION = "evaluation.json"
DECISION = "decision"  # decision.json and decision.html
REPORT = "report.html"  # in the run of the decision
MODEL_CARD = "model_card.html"
FAILURES = (MlflowException, OSError)  # exceptions of MLflow's client; its HTTP errors are OSErrors

_DRIFT: tuple[Literal["psi", "ks", "unseen"], ...] = ("psi", "ks", "unseen")  # metrics of a decision, per column
_DELETED = "bundle_deleted_on"  # tag of a run whose bundle retention has deleted
_CONTENT = "batch_sha256."  # prefix of one tag per batch; the batch number follows
# parts of `core` that no model needs: half of its files, and MLflow takes a request for each
_NOT_IN_MODELS = ("ledger", "stores", "metrics.py", "settings.py", "transport.py", "__pycache__")
_RUN_TAGS = ("dag_run", "model_uri", "reason")  # tags of a run that a version does not get


def contents(tags: Mapping[str, str]) -> dict[int, str]:
    """Content hash of each batch that a run with these tags was trained on, by batch number."""
    hashes = {name.removeprefix(_CONTENT): text for name, text in tags.items() if name.startswith(_CONTENT)}
    return {int(number): hashes[number] for number in sorted(hashes, key=int)}


def lineage_tags(batches: Mapping[int, str], decision_run: str | None) -> dict[str, str]:
    """Tags with the content hash of each batch, and with the run that has the decision and, later, the report."""
    tags = {"batches": ",".join(map(str, batches))}
    tags |= {f"{_CONTENT}{number}": sha256 for number, sha256 in batches.items()}
    if decision_run:
        tags |= {"decision_run": decision_run, "report": f"runs:/{decision_run}/{REPORT}"}
    return tags


def version_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a training's run that describe the origin of its model."""
    return {name: text for name, text in tags.items() if not name.startswith("mlflow.") and name not in _RUN_TAGS}


class Tracking:
    """An MLflow server with the same version as this client."""

    def __init__(self, settings: PipelineSettings, registry: RegistryClient) -> None:
        """Connect.

        Raises:
            RegistryError: the server does not answer, or has another version. An MLflow 3 client uses endpoints that a
                2.x server does not have.
        """
        self._settings = settings
        self._registry = registry
        registry.check_server(exact=True)
        mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
        self._client = mlflow.MlflowClient()

    def start_run(self, name: str, tags: dict[str, str]) -> Any:
        """Start a run, as a context manager. A run of this name that an interrupted attempt left open is closed."""
        experiment = mlflow.set_experiment(self._settings.experiment_name)
        left = self._client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        for run in left:
            if run.data.tags.get("dag_run") == tags["dag_run"] and run.info.run_name == name:
                self._client.set_terminated(run.info.run_id, "KILLED")
        return mlflow.start_run(run_name=name, tags=tags)

    def log_decision(self, name: str, tags: dict[str, str], document: DecisionDocument, texts: dict[str, str]) -> str:
        """Log a decision as its own run, with its document, and texts by file name; return the run's id.

        If an interrupted attempt logged a decision on the same content, that run is overwritten.
        """
        earlier = self.decision_run(tags["batch"], tags["sha256"])
        with mlflow.start_run(run_id=earlier, run_name=name, tags=tags) as active:
            figures = {
                f"{figure}_{column['column'].replace(' ', '_')}": value
                for column in document["columns"]
                for figure in _DRIFT
                if (value := column[figure]) is not None
            }
            if document["champion"] and document["champion"]["mae"] is not None:
                figures["champion_mae"] = document["champion"]["mae"]
            mlflow.log_metrics(figures)
            mlflow.log_dict(dict(document), f"{DECISION}.json")
            self.log_texts(texts)
            return str(active.info.run_id)

    def decision_run(self, batch: str, sha256: str) -> str | None:
        """Id of the run with the decision on a batch's content; None if there is none."""
        experiment = mlflow.set_experiment(self._settings.experiment_name)
        same = f"tags.stage = 'decide' and tags.batch = '{batch}' and tags.sha256 = '{sha256}'"
        runs = self._client.search_runs([experiment.experiment_id], same, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def log_training(
        self,
        params: Mapping[str, object],
        scores: Mapping[str, Mapping[str, float]],
        notes: Mapping[str, Mapping[str, object]],
    ) -> None:
        """Log parameters, metrics such as `train_mae`, and one JSON file per note to the open run."""
        mlflow.log_params(dict(params))
        mlflow.log_metrics({f"{split}_{name}": value for split, part in scores.items() for name, value in part.items()})
        for name, content in notes.items():
            mlflow.log_dict(dict(content), f"{name}.json")

    def log_texts(self, texts: dict[str, str]) -> None:
        """Log texts, by file name, to the open run."""
        for name, text in texts.items():
            mlflow.log_text(text, name)

    def log_bundle(self, folder: Path, manifest_sha256: str) -> None:
        """Log a bundle to the open run, without pickle, as a model that `mlflow.pyfunc.load_model` loads.

        The model includes the code of `core` that prices listings, and pins all its requirements, so it runs in an
        environment of its own.
        """
        with tempfile.TemporaryDirectory() as scratch:
            code = Path(scratch) / "core"
            shutil.copytree(Path(core.__file__).parent, code, ignore=shutil.ignore_patterns(*_NOT_IN_MODELS))
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="core.pyfunc",
                data_path=str(folder),
                code_paths=[str(code)],
                pip_requirements=pinned(),
            )
        mlflow.set_tags({"model_uri": logged.model_uri, MANIFEST_TAG: manifest_sha256})

    def run(self, run_id: str) -> Run:
        """A run.

        Raises:
            MissingModelError: the run does not exist.
            RegistryError: MLflow failed.
        """
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ABSENT:
                raise MissingModelError(f"MLflow has no run {run_id}: {error.message}") from error
            raise RegistryError(f"MLflow did not return run {run_id}: {error.message}") from error

    def manifest_sha256(self, run_id: str) -> str:
        """Hash of the bundle in the tags of a run; empty if there is no such tag or no such run.

        Raises:
            RegistryError: MLflow failed.
        """
        try:
            return str(self.run(run_id).data.tags.get(MANIFEST_TAG, ""))
        except MissingModelError:
            return ""

    def bundle(self, run_id: str) -> Bundle:
        """The bundle that a run logged.

        Raises:
            MissingModelError: the run does not exist, it logged no model, or retention has deleted the bundle.
            RegistryError: MLflow failed.
            BundleError: the bundle is damaged, or has other features.
        """
        tags = self.run(run_id).data.tags
        if not (uri := tags.get("model_uri")):
            raise MissingModelError(f"run {run_id} logged no model: run train again")
        if day := tags.get(_DELETED):
            raise MissingModelError(
                f"the bundle of run {run_id} was deleted on {day}, as airflow.pipeline.config.modelRetentionDays says: "
                "use a newer version"
            )
        location = self._location(uri)
        with tempfile.TemporaryDirectory() as folder:
            self._registry.download_from(location, Path(folder))
            return load_bundle(Path(folder))

    def _location(self, model_uri: str) -> str:
        return str(self._client.get_logged_model(model_uri.rpartition("/")[2]).artifact_location)

    def has_alias(self, run_id: str) -> bool:
        """Whether a registered version of this run has an alias, whatever the alias and the model's name are."""
        versions = self._client.search_model_versions(f"run_id = '{run_id}'")
        return any(self._client.get_model_version(each.name, each.version).aliases for each in versions)

    def delete_bundle(self, run_id: str, day: str) -> int | None:
        """Delete the model that a run logged, with its bundle. The run, its pages and its versions stay.

        Idempotent: the run is marked with `day` after the deletion.

        Returns:
            the number of bytes; None if there is nothing to delete, because the run was deleted, logged no model, or
            was marked before.

        Raises:
            RegistryError: there is no such run.
        """
        run = self.run(run_id)
        if run.info.lifecycle_stage != "active" or _DELETED in run.data.tags or "model_uri" not in run.data.tags:
            return None
        size = _delete(self._location(run.data.tags["model_uri"]))
        self._client.set_tag(run_id, _DELETED, day)
        return size

    def log_evaluation(self, run_id: str, evaluation: Evaluation) -> None:
        """Add an evaluation to a finished run. A second call replaces it."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"holdout_{model}_{name}", value, timestamp=now, step=0)
            for model, scores in (("challenger", evaluation["challenger"]), ("champion", evaluation["champion"]))
            for name, value in (scores or {}).items()
        ]
        self._client.log_batch(run_id, metrics=metrics)
        self._client.log_dict(run_id, dict(evaluation), EVALUATION)

    def log_page(self, run_id: str, name: str, page: str) -> None:
        """Add a page to a finished run. A second call replaces it."""
        self._client.log_text(run_id, page, name)

    def find_evaluation(self, run_id: str) -> Evaluation | None:
        """The evaluation of a run; None if there is none yet."""
        if not any(item.path == EVALUATION for item in self._client.list_artifacts(run_id)):
            return None
        evaluation: Evaluation = json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/{EVALUATION}"))
        return evaluation

    def evaluation(self, run_id: str) -> Evaluation:
        """The evaluation of a run.

        Raises:
            RegistryError: there is none yet.
        """
        evaluation = self.find_evaluation(run_id)
        if evaluation is None:
            raise RegistryError(f"run {run_id} has no {EVALUATION}: run evaluate first")
        return evaluation

    def register(self, run_id: str, tags: dict[str, str]) -> str:
        """Register the model of a run, and return its version. A second call returns the same version."""
        name = self._settings.model_name
        registered = self._client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        if registered:
            return str(registered[0].version)
        uri = self.run(run_id).data.tags["model_uri"]
        return str(mlflow.register_model(uri, name, tags=tags).version)

    def version(self, version: str) -> model_registry.ModelVersion:
        """A registered version.

        Raises:
            RegistryError: there is no such version.
        """
        name = self._settings.model_name
        try:
            return self._client.get_model_version(name, version)
        except MlflowException as error:
            raise RegistryError(f"{name} has no version {version}: {error.message}") from error

    def tag_version(self, version: str, **tags: str) -> None:
        """Set tags of a registered version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._settings.model_name, version, key, value)

    def set_alias(self, version: str) -> None:
        """Move the alias of the champion to this version."""
        self._client.set_registered_model_alias(self._settings.model_name, self._settings.model_alias, version)

    def set_challenger(self, version: str | None) -> None:
        """Move the alias of the challenger to this version, or remove it. Predictors then use it in the shadow."""
        name, alias = self._settings.model_name, self._settings.shadow_alias
        if version is None:
            self._client.delete_registered_model_alias(name, alias)
        else:
            self._client.set_registered_model_alias(name, alias, version)


class Rehearsal(Tracking):
    """Tracking with a model name and an experiment of its own, so that everything in them can be deleted."""

    def __init__(self, settings: PipelineSettings, registry: RegistryClient) -> None:
        """Connect, as `Tracking` does, and stop MLflow's client from printing."""
        disable_logging()  # type: ignore[no-untyped-call]
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        own = {name: f"{getattr(settings, name)}-smoke" for name in ("model_name", "experiment_name")}
        super().__init__(settings.model_copy(update=own), registry)

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return self._settings.model_name

    def delete_all(self) -> None:
        """Delete the registered model, and runs and logged models with their artifacts. The empty experiment stays.

        MLflow keeps database rows of deleted objects until `mlflow gc`.
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


def _delete(artifacts: str) -> int:
    """Delete artifacts, and return their number of bytes."""
    repository = get_artifact_repository(artifacts)
    size = _bytes(repository, None)
    repository.delete_artifacts()  # type: ignore[no-untyped-call]
    return size


def _bytes(repository: Any, folder: str | None) -> int:
    parts = repository.list_artifacts(folder)
    return sum(_bytes(repository, part.path) if part.is_dir else part.file_size or 0 for part in parts)
