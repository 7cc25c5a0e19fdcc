"""Whether a model can take its whole way through MLflow, from a pod like those of the stages; one tree does."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from core.bundle import golden_sample, load_bundle, write_bundle
from core.compatibility import MLFLOW
from core.encodings import fit
from core.errors import HouseError, RegistryError
from core.features import RAW_SCHEMA
from pipeline.context import Context
from pipeline.encoded import Part, training_matrix
from pipeline.learner import boost, dataset
from pipeline.settings import PipelineSettings
from pipeline.tracking import FAILURES, Rehearsal

_ROWS = 90
_TREE = {"num_boost_round": 1, "min_data_in_leaf": 5}
_STATE = "see whether it is Ready (`make status`) and lets this pod in (NetworkPolicy, label access/mlflow)"
_LOG = "see MLflow's log (`kubectl -n mlops logs deploy/mlflow`)"
_REMEDIES = (  # by words of an error: the first that fits, before the step's own
    ("deploy images of one release", ""),
    ("Invalid Host header", "add the host of MLFLOW_TRACKING_URI to the value mlflow.allowedHosts"),
    ("does not answer", _STATE),
    ("did not answer", _STATE),
    ("Connection refused", _STATE),
    ("timed out", _STATE),
)
_LONGEST = 600  # characters of what MLflow says


def run(context: Context) -> dict[str, Any]:
    """Log, register, alias, download and load a model of one tree, as the stages and the predictor do.

    It has a model name and an experiment of its own; what it made is removed, and so is what an interrupted one left.
    Each step that is done is a line on standard error.

    Raises:
        RegistryError: a step failed; one sentence that ends with what to do.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the client's own 7 take four minutes
    uri = context.settings.mlflow_tracking_uri
    began = time.monotonic()
    with _step("versions", f"MLflow at {uri} is {MLFLOW}, as its client", _STATE):
        tracking = Rehearsal(context.settings, context.registry)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _go(context, tracking, Path(folder))
    except RegistryError:
        with suppress(RegistryError):  # that failure is the one to tell; the next smoke test removes what is left
            _clean(tracking)
        raise
    _clean(tracking)
    seconds = time.monotonic() - began
    return {
        "mlflow": MLFLOW,
        "seconds": round(seconds, 1),
        "summary": f"MLflow at {uri} keeps a model and hands it out",
    }


def _go(context: Context, tracking: Rehearsal, folder: Path) -> None:
    alias = context.settings.model_alias
    with _step("train", "one tree on made-up listings", "the image pipeline is broken: build it anew (`make images`)"):
        manifest = grow(context.settings, folder / "bundle")
    storage = f"{_LOG} and whether MinIO takes objects (`make status`)"
    tags = {"dag_run": context.dag_run, "code_version": context.code_version, **context.origin}
    with _step("log", "its bundle is an artifact of a run", storage), tracking.start_run("smoke", tags) as active:
        tracking.log_bundle(folder / "bundle", manifest)
    with _step("register", f"it is a version of {tracking.model_name}", _LOG):
        version = tracking.register(active.info.run_id, {"manifest_sha256": manifest})
    with _step("alias", f"{alias} names that version", f"let no other smoke test run meanwhile, and {_LOG}"):
        tracking.set_alias(version)
        found = context.registry.champion(tracking.model_name, alias)
        if found is None or found.version != version:
            named = f"version {found.version}" if found else "nothing"
            raise RegistryError(f"{alias} names {named} instead of version {version}")
    with _step("download", "the predictor's client gets the bundle", storage):
        context.registry.download(found, folder / "downloaded")
    with _step("load", "it is whole and gives its golden prices", storage):
        load_bundle(folder / "downloaded").check_golden()


def _clean(tracking: Rehearsal) -> None:
    with _step("clean up", f"run, artifacts and model {tracking.model_name} are gone", _LOG):
        tracking.forget()


@contextmanager
def _step(name: str, done: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (HouseError, *FAILURES) as failed:
        words = " ".join(str(failed).split())
        cut = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
        told = next((known for part, known in _REMEDIES if part in words), remedy)
        raise RegistryError(f"step {name!r}: {cut.rstrip('.')}{told and f'; {told}'}") from failed
    print(f"{name:<9} {done}", file=sys.stderr, flush=True)


def grow(settings: PipelineSettings, folder: Path) -> str:
    """Write a bundle of one tree, and return the sha256 of its manifest."""
    rows, settings = listings(), settings.model_copy(update=_TREE)
    part = Part.of(rows)
    known = training_matrix([part], part.sums, settings.seed)[0], part.price
    train = dataset(known, settings)
    booster = boost(train, dataset(known, settings, train), settings)
    return write_bundle(folder, booster.model_to_string(), fit(part.sums), golden_sample(rows))


def listings() -> pl.DataFrame:
    """Made-up clean rows in two towns, whose prices follow their sizes."""
    number = pl.int_range(_ROWS, eager=True)
    town = number % 2
    known = {
        "status": pl.repeat("for_sale", _ROWS, eager=True),
        "price": 100_000 + 2_500 * number,
        "bed": 1 + number % 5,
        "city": town.replace_strict({0: "Agawam", 1: "Springfield"}),
        "state": pl.repeat("Massachusetts", _ROWS, eager=True),
        "zip_code": town.replace_strict({0: 1001, 1: 1103}),
        "house_size": 800 + 25 * number,
    }
    unknown = pl.repeat(None, _ROWS, eager=True)
    return pl.DataFrame({name: known.get(name, unknown).cast(kind) for name, kind in RAW_SCHEMA.items()})
