"""Prices every listing of a file: Parquet or CSV in, Parquet out, in bounded memory.

A row gets exactly the price of `POST /predict`, to the last bit, or the error that explains why it has none. No row is
lost. The output file appears under its name at the end, complete. A repeated run replaces it by the same content.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from core.errors import BundleError, DataError, RegistryError
from core.stores.objects import FolderStore, Store, open_store
from core.stores.registry import RegistryClient
from predictor.batch.columns import check
from predictor.errors import NOT_FINITE
from predictor.serving.loader import BundleLoader, LoadedModel
from predictor.serving.loading_test import run_loading_test
from predictor.serving.trust import champion_check, trained_check
from predictor.settings import BatchSettings

REGISTRY_TIMEOUT_SECONDS = 5
PROGRESS_SECONDS = 5
_COLUMNS = {
    "price": pl.Float64(),  # US dollars, as are `low` and `high`; null if `error` is not null
    "low": pl.Float64(),  # also null if the model has no prediction intervals
    "high": pl.Float64(),
    "model_version": pl.String(),
    "error": pl.String(),
}
_ROW_GROUP = 100_000


@dataclass(frozen=True)
class BatchResult:
    """Figures of a finished batch."""

    rows: int
    without_price: int
    seconds: float
    uri: str


@dataclass
class Progress:
    """Reports the progress of a batch, at most every `PROGRESS_SECONDS`."""

    total: int
    report: Callable[[str], None]
    rows: int = 0
    without_price: int = 0

    def __post_init__(self) -> None:
        self.began = self._last_report = time.monotonic()

    def add(self, rows: int, without_price: int) -> None:
        """Count finished rows."""
        self.rows += rows
        self.without_price += without_price
        now = time.monotonic()
        if now - self._last_report >= PROGRESS_SECONDS:
            self._last_report = now
            rate = self.rows / (now - self.began)
            left = timedelta(seconds=round((self.total - self.rows) / rate))
            share = self.rows / max(self.total, 1)
            self.report(f"{self.rows:,} of {self.total:,} rows ({share:.0%}), {rate:,.0f} rows/s, {left} left")


def run(
    settings: BatchSettings, source: str, target: str, version: str, prefix: str, report: Callable[[str], None]
) -> BatchResult:
    """Price the file `source` into the file `target`. Both are `s3://bucket/key`, `file:///path` or a path.

    Args:
        settings: the registry and the object store.
        source: Parquet (`.parquet`) or CSV (`.csv`, with a header).
        target: Parquet.
        version: version of the model; empty for the version with the alias.
        prefix: prefix for the names of the added columns.
        report: gets lines about the progress.

    Raises:
        DataError: a location is invalid, or the content of a file does not fit its suffix.
        HouseError: the registry, the model or the store failed; nothing was written.
    """
    if source == target:
        raise DataError(f"{source} is input and output: choose another output, because the input is never replaced")
    kind, suffix = PurePosixPath(source).suffix, PurePosixPath(target).suffix
    if kind not in (".parquet", ".csv"):
        raise DataError(f"the name of the input {source} must end with .parquet or .csv")
    if suffix != ".parquet":
        raise DataError(f"the name of the output {target} must end with .parquet")
    (input_store, input_key), (output_store, output_key) = _locate(source, settings), _locate(target, settings)
    with tempfile.TemporaryDirectory() as folder:
        input_file, output_file = Path(folder) / f"input{kind}", Path(folder) / "output.parquet"
        input_store.get_file(input_key, input_file)
        model = load(settings, version)
        report(f"{model.version.name} version {model.version.version} prices {source}")
        try:
            progress = price_file(model, input_file, output_file, prefix, report)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{source} cannot be priced: {reason}") from error
        uri = output_store.put_file(output_key, output_file)
    return BatchResult(progress.rows, progress.without_price, time.monotonic() - progress.began, uri)


def load(settings: BatchSettings, version: str) -> LoadedModel:
    """Load this version of the model, or the version with the alias, after the same checks as for the service.

    A version that is named here need not have been the champion, but the pipeline must have trained it.

    Raises:
        RegistryError: the version does not exist, or MLflow does not answer.
        LedgerError: the ledger does not answer.
        BundleError: the version fails a check.
    """
    registry = RegistryClient(settings.mlflow_tracking_uri, settings.mlflow_login, timeout=REGISTRY_TIMEOUT_SECONDS)
    name, alias = settings.model_name, settings.model_alias
    test = partial(run_loading_test, seconds=settings.trial_seconds, memory_bytes=settings.trial_memory_bytes)
    trust = (trained_check if version else champion_check)(settings.ledger_dsn)
    loader = BundleLoader(registry, settings.bundle_dir, trust, test, settings.max_bundle_bytes)
    named = registry.version(name, version) if version else registry.version_by_alias(name, alias)
    if named is None:
        missing = f"there is no version {version} of {name}" if version else f"no version of {name} is {alias}"
        raise RegistryError(f"{missing}: run the pipeline, or name another version")
    try:
        return loader.load(named)
    except BundleError as error:
        raise BundleError(f"version {named.version} of {name} is refused: {error}") from error


def price_file(
    model: LoadedModel, input_file: Path, output_file: Path, prefix: str, report: Callable[[str], None]
) -> Progress:
    """Price the rows of a file, in order, into another file.

    Raises:
        DataError: the input already has a column with the name of an added one.
        polars.exceptions.PolarsError, OSError: the input cannot be read, or the output cannot be written.
    """
    as_text = input_file.suffix == ".csv"
    rows = (
        pl.scan_csv(input_file, infer_schema=False, glob=False) if as_text else pl.scan_parquet(input_file, glob=False)
    )
    schema = rows.collect_schema()
    added = {f"{prefix}{name}": kind for name, kind in _COLUMNS.items()}
    if duplicates := sorted(added.keys() & schema.keys()):
        raise DataError(
            f"the input already has the columns {', '.join(duplicates)}: set a --prefix for the added columns"
        )
    progress = Progress(rows.select(pl.len()).collect(engine="streaming").item(), report)

    def price_piece(frame: pl.DataFrame) -> pl.DataFrame:
        columns = price(model, frame, as_text)
        progress.add(frame.height, frame.height - columns["error"].null_count())
        return frame.hstack(columns.rename(dict(zip(_COLUMNS, added, strict=True))))

    rows.map_batches(price_piece, schema={**schema, **added}, streamable=True).sink_parquet(
        output_file, row_group_size=_ROW_GROUP, maintain_order=True, engine="streaming"
    )
    return progress


def price(model: LoadedModel, frame: pl.DataFrame, as_text: bool) -> pl.DataFrame:
    """The added columns for the rows of `frame`, in their order."""
    checked = check(frame, as_text)
    estimates = model.bundle.estimate(checked.raw)
    finite = pl.Series(np.isfinite(estimates.prices))
    errors = checked.errors.zip_with(finite | checked.errors.is_not_null(), pl.Series([NOT_FINITE]))
    dollars = [
        pl.Series(name, np.full(frame.height, np.nan) if values is None else values, dtype=pl.Float64).fill_nan(None)
        for name, values in (("price", estimates.prices), ("low", estimates.low), ("high", estimates.high))
    ]
    valid = errors.is_null()
    return pl.DataFrame([column.set(~valid, None) for column in dollars]).with_columns(
        pl.lit(model.version.version).alias("model_version"), errors
    )


def _locate(uri: str, settings: BatchSettings) -> tuple[Store, str]:
    """The store of a file, and the file's key in the store."""
    scheme, separator, rest = uri.partition("://")
    if scheme == "s3" and separator:
        bucket, _, key = rest.partition("/")
        return open_store(f"s3://{bucket}", settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key), key
    if separator and not (scheme == "file" and rest.startswith("/")):
        raise DataError(f"{uri!r} is not a valid location: use s3://bucket/key, file:///path or a path")
    path = Path(rest if separator else uri).absolute()
    return FolderStore(path.parent), path.name
