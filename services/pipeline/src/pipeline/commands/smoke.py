"""Test that a model of one tree can be logged, registered, downloaded and loaded through MLflow."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from core.errors import HouseError, RegistryError
from core.features.regression import fit
from core.listing.schema import RAW_SCHEMA
from core.model.bundle import golden_sample, load_bundle, write_bundle
from core.model.compatibility import MLFLOW
from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.rows import Deferred
from pipeline.settings import PipelineSettings
from pipeline.tracking import FAILURES, Rehearsal
from pipeline.training.boosting import boost, dataset
from pipeline.training.encoded import Part
from pipeline.training.features import FeatureRows

_ROWS = 90
_TREE = {"num_boost_round": 1, "min_data_in_leaf": 5}
_STATE = "check that it is Ready (`make status`) and that its NetworkPolicy admits this pod (label access/mlflow)"
_LOG = "see MLflow's log (`kubectl -n mlops logs deploy/mlflow`)"
_REMEDIES = (  # text of an error, and its remedy; the first match replaces the remedy of the step
    ("deploy images of one release", ""),
    ("Invalid Host header", "add the host of MLFLOW_TRACKING_URI to the value mlflow.allowedHosts"),
    ("does not answer", _STATE),
    ("did not answer", _STATE),
    ("Connection refused", _STATE),
    ("timed out", _STATE),
)
_MAX_ERROR = 600  # characters of an error of MLflow


class SmokeOutcome(Outcome):
    """The version of MLflow, and the time that the test took."""

    mlflow: str
    seconds: float


def run(context: Context) -> SmokeOutcome:
    """Log, register, alias, download and load a model of one tree, as the stages and the predictor do.

    The test uses its own model name and experiment. It removes everything that it made, and what an interrupted test
    left. Each finished step prints a line to standard error.

    Raises:
        RegistryError: a step failed. The message ends with the remedy.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default of 7 retries takes four minutes
    uri = context.settings.mlflow_tracking_uri
    began = time.monotonic()
    with _step("versions", f"MLflow at {uri} has version {MLFLOW}, the same as its client", _STATE):
        tracking = Rehearsal(context.settings, context.registry)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run_steps(context, tracking, Path(folder))
    except RegistryError:
        with suppress(RegistryError):  # The first error matters. The next smoke test removes what is left.
            _clean(tracking)
        raise
    _clean(tracking)
    seconds = time.monotonic() - began
    return {
        "mlflow": MLFLOW,
        "seconds": round(seconds, 1),
        "summary": f"MLflow at {uri} stores a model and returns it",
    }


def _run_steps(context: Context, tracking: Rehearsal, folder: Path) -> None:
    alias = context.settings.model_alias
    with _step(
        "train", "one tree on synthetic listings", "the image of the pipeline is broken; rebuild it (`make images`)"
    ):
        manifest = grow(context.settings, folder / "bundle")
    storage = f"{_LOG} and check that MinIO is Ready (`make status`)"
    tags = {"dag_run": context.dag_run, "code_version": context.code_version, **context.origin}
    with _step("log", "its bundle is an artifact of a run", storage), tracking.start_run("smoke", tags) as active:
        tracking.log_bundle(folder / "bundle", manifest)
    with _step("register", f"it is a version of {tracking.model_name}", _LOG):
        version = tracking.register(active.info.run_id, {"manifest_sha256": manifest})
    with _step(
        "alias", f"{alias} points to that version", f"make sure that no other smoke test is running, and {_LOG}"
    ):
        tracking.set_alias(version)
        champion = context.registry.version_by_alias(tracking.model_name, alias)
        if champion is None or champion.version != version:
            target = f"version {champion.version}" if champion else "nothing"
            raise RegistryError(f"{alias} points to {target} instead of version {version}")
    with _step("download", "the predictor's client gets the bundle", storage):
        context.registry.download(champion, folder / "downloaded")
    with _step("load", "it is complete and gives its golden prices", storage):
        load_bundle(folder / "downloaded").check_golden()


def _clean(tracking: Rehearsal) -> None:
    with _step("clean up", f"run, artifacts and model {tracking.model_name} are gone", _LOG):
        tracking.delete_all()


@contextmanager
def _step(name: str, done: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (HouseError, *FAILURES) as error:
        message = " ".join(str(error).split())
        cut = message if len(message) <= _MAX_ERROR else f"{message[:_MAX_ERROR]}..."
        action = next((action for part, action in _REMEDIES if part in message), remedy)
        raise RegistryError(f"step {name!r}: {cut.rstrip('.')}{action and f'; {action}'}") from error
    print(f"{name:<9} {done}", file=sys.stderr, flush=True)


def grow(settings: PipelineSettings, folder: Path) -> str:
    """Write a bundle of one tree, and return the sha256 of its manifest."""
    rows, settings = listings(), settings.model_copy(update=_TREE)
    part = Part.of(rows)
    sums = part.sums()
    pieces = FeatureRows.of_training([Deferred.of(part)], sums, settings.seed).pieces()
    train = dataset(pieces, settings)
    booster = boost(train, dataset(pieces, settings, train), settings)
    return write_bundle(folder, booster.model_to_string(), fit(sums), golden_sample(rows))


def listings() -> pl.DataFrame:
    """Synthetic clean rows in two towns, whose prices depend on their sizes."""
    number = pl.int_range(_ROWS, eager=True)
    town = number % 2
    values = {
        "status": pl.repeat("for_sale", _ROWS, eager=True),
        "price": 100_000 + 2_500 * number,
        "bed": 1 + number % 5,
        "city": town.replace_strict({0: "Agawam", 1: "Springfield"}),
        "state": pl.repeat("Massachusetts", _ROWS, eager=True),
        "zip_code": town.replace_strict({0: 1001, 1: 1103}),
        "house_size": 800 + 25 * number,
    }
    null = pl.repeat(None, _ROWS, eager=True)
    return pl.DataFrame({name: values.get(name, null).cast(kind) for name, kind in RAW_SCHEMA.items()})
