"""Prices every listing of a file: Parquet or CSV in, Parquet out, in pieces, so that no file is too large.

A row has the price that `POST /predict` gives for it, to the last bit, or the reason why it has none; no row is lost.
The output appears whole, under its name, at the end; a repetition replaces it by the same.
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
from core.registry import RegistryClient
from core.storage import FolderStore, Store, open_store
from predictor.champion import Champion, ChampionFollower
from predictor.columns import check
from predictor.errors import NOT_FINITE
from predictor.settings import BatchSettings
from predictor.trial import run_trial

REGISTRY_TIMEOUT_SECONDS = 5
PROGRESS_SECONDS = 5
_COLUMNS = {
    "price": pl.Float64(),  # US dollars, as the next two; null where `error` is not
    "low": pl.Float64(),  # null, too, where the model has no ranges
    "high": pl.Float64(),
    "model_version": pl.String(),
    "error": pl.String(),
}
_ROW_GROUP = 100_000


@dataclass(frozen=True)
class Done:
    """What a batch came to."""

    rows: int
    without_price: int
    seconds: float
    uri: str


@dataclass
class Progress:
    """Tells how far a batch is, not more often than every `PROGRESS_SECONDS`."""

    total: int
    tell: Callable[[str], None]
    rows: int = 0
    without_price: int = 0

    def __post_init__(self) -> None:
        self.began = self._told = time.monotonic()

    def add(self, rows: int, without_price: int) -> None:
        """Count rows that are done."""
        self.rows += rows
        self.without_price += without_price
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            rate = self.rows / (now - self.began)
            left = timedelta(seconds=round((self.total - self.rows) / rate))
            share = self.rows / max(self.total, 1)
            self.tell(f"{self.rows:,} of {self.total:,} rows ({share:.0%}), {rate:,.0f} rows/s, {left} left")


def run(
    settings: BatchSettings, source: str, target: str, version: str, prefix: str, tell: Callable[[str], None]
) -> Done:
    """Price the file `source` into the file `target`: each `s3://bucket/key`, `file:///path` or a path.

    Args:
        settings: where models and objects are.
        source: Parquet (`.parquet`) or CSV (`.csv`, with a header).
        target: Parquet.
        version: of the model; empty for the one that the alias names.
        prefix: put before the names of the columns that are added.
        tell: is told the progress.

    Raises:
        DataError: a name that cannot be, or a file that is not what its name says.
        HouseError: the registry, the model or the store failed; nothing was written.
    """
    if source == target:
        raise DataError(f"{source} is input and output: name another output, the input is not replaced")
    kind, suffix = PurePosixPath(source).suffix, PurePosixPath(target).suffix
    if kind not in (".parquet", ".csv"):
        raise DataError(f"the input {source} has to be named .parquet or .csv")
    if suffix != ".parquet":
        raise DataError(f"the output {target} has to be named .parquet")
    (inputs, key), (outputs, result) = _place(source, settings), _place(target, settings)
    with tempfile.TemporaryDirectory() as folder:
        read, written = Path(folder) / f"input{kind}", Path(folder) / "output.parquet"
        inputs.get_file(key, read)
        champion = load(settings, version)
        tell(f"{champion.version.name} version {champion.version.version} prices {source}")
        try:
            progress = price_file(champion, read, written, prefix, tell)
        except (pl.exceptions.PolarsError, OSError) as unusable:
            reason = str(unusable).partition("\n")[0]
            raise DataError(f"{source} cannot be priced: {reason}") from unusable
        uri = outputs.put_file(result, written)
    return Done(progress.rows, progress.without_price, time.monotonic() - progress.began, uri)


def load(settings: BatchSettings, version: str) -> Champion:
    """The model of this version, or that of the alias, after the checks of a model that is to serve.

    Raises:
        RegistryError: there is none, or MLflow does not say.
        BundleError: it may not serve.
    """
    registry = RegistryClient(settings.mlflow_tracking_uri, timeout=REGISTRY_TIMEOUT_SECONDS)
    name, alias = settings.model_name, settings.model_alias
    trial = partial(run_trial, seconds=settings.trial_seconds, memory_bytes=settings.trial_memory_bytes)
    models = ChampionFollower(registry, name, alias, settings.bundle_dir, 0, trial, settings.max_bundle_bytes)
    named = registry.version(name, version) if version else registry.champion(name, alias)
    if named is None:
        missing = f"there is no version {version} of {name}" if version else f"no version of {name} is {alias}"
        raise RegistryError(f"{missing}: run the pipeline, or name another version")
    try:
        return models.load(named)
    except BundleError as bad:
        raise BundleError(f"version {named.version} of {name} is refused: {bad}") from bad


def price_file(champion: Champion, read: Path, written: Path, prefix: str, tell: Callable[[str], None]) -> Progress:
    """Price the rows of a file, in their order, into another.

    Raises:
        DataError: the input has a column of the name of one that is added.
        polars.exceptions.PolarsError, OSError: the one cannot be read, or the other not be written.
    """
    as_text = read.suffix == ".csv"
    rows = pl.scan_csv(read, infer_schema=False, glob=False) if as_text else pl.scan_parquet(read, glob=False)
    schema = rows.collect_schema()
    added = {f"{prefix}{name}": kind for name, kind in _COLUMNS.items()}
    if taken := sorted(added.keys() & schema.keys()):
        raise DataError(f"the input has columns {', '.join(taken)} already: give those that are added a --prefix")
    progress = Progress(rows.select(pl.len()).collect(engine="streaming").item(), tell)

    def piece(frame: pl.DataFrame) -> pl.DataFrame:
        found = price(champion, frame, as_text)
        progress.add(frame.height, frame.height - found["error"].null_count())
        return frame.hstack(found.rename(dict(zip(_COLUMNS, added, strict=True))))

    rows.map_batches(piece, schema={**schema, **added}, streamable=True).sink_parquet(
        written, row_group_size=_ROW_GROUP, maintain_order=True, engine="streaming"
    )
    return progress


def price(champion: Champion, frame: pl.DataFrame, as_text: bool) -> pl.DataFrame:
    """The columns that are added to rows."""
    checked = check(frame, as_text)
    found = champion.bundle.estimate(checked.raw)
    finite = pl.Series(np.isfinite(found.prices))
    errors = checked.errors.zip_with(finite | checked.errors.is_not_null(), pl.Series([NOT_FINITE]))
    dollars = [
        pl.Series(name, np.full(frame.height, np.nan) if values is None else values, dtype=pl.Float64).fill_nan(None)
        for name, values in (("price", found.prices), ("low", found.low), ("high", found.high))
    ]
    good = errors.is_null()
    return pl.DataFrame([column.set(~good, None) for column in dollars]).with_columns(
        pl.lit(champion.version.version).alias("model_version"), errors
    )


def _place(uri: str, settings: BatchSettings) -> tuple[Store, str]:
    """The store of a file, and its key there."""
    scheme, mark, rest = uri.partition("://")
    if scheme == "s3" and mark:
        bucket, _, key = rest.partition("/")
        return open_store(f"s3://{bucket}", settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key), key
    if mark and not (scheme == "file" and rest.startswith("/")):
        raise DataError(f"{uri!r} is no place: use s3://bucket/key, file:///path or a path")
    path = Path(rest if mark else uri).absolute()
    return FolderStore(path.parent), path.name
