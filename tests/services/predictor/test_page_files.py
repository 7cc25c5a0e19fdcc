"""The page `Files` with a real predictor: its prices and errors are those of the batch job, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from ci.local.processes import LocalPlatform
from core.stores.registry import ModelVersion
from predictor.batch import job
from predictor.serving.loader import LoadedModel
from tests.kit.local_predictor import NAME, serving
from tests.kit.small_models import Model, listings
from tests.services.ledgers import new_ledger
from ui import files
from ui.predictor import Predictor

pytestmark = pytest.mark.services

KEY = "key-of-the-page"
ROWS = 200


@pytest.fixture(scope="module")
def url(local: LocalPlatform, tmp_path_factory: pytest.TempPathFactory, models: tuple[Model, Model]) -> Iterator[str]:
    """A predictor that requires a key and accepts short lists only."""
    settings = {"require_api_key": "true", "api_keys": KEY, "max_listings": "150"}
    with serving(
        local, models[0], tmp_path_factory.mktemp("files"), new_ledger(local, "page_files"), **settings
    ) as url:
        yield url


def table() -> pl.DataFrame:
    """Listings with an id and with numbers of many digits."""
    draw = np.random.default_rng(3)
    return (
        listings(ROWS)
        .drop("price")
        .with_columns(
            id=pl.format("{}{}", pl.lit("00"), pl.int_range(ROWS)),
            acre_lot=pl.Series(draw.uniform(0, 3, ROWS)),
            house_size=pl.Series(draw.uniform(300, 4_000, ROWS)),
        )
    )


def csv() -> bytes:
    """Every third row has three errors, which are more than one answer names; others have spellings of CSV files."""
    row = pl.int_range(ROWS)
    texts = table().select(pl.all().cast(pl.String))
    odd = {"bed": "many", "bath": "1e400", "prev_sold_date": "12.10.2012"}
    return (
        texts.with_columns(
            pl.when(row % 3 == 0).then(pl.lit(text)).otherwise(name).alias(name) for name, text in odd.items()
        )
        .with_columns(
            zip_code=pl.when(row % 5 == 1).then(pl.lit("01001-1234")).otherwise("zip_code"),
            acre_lot=pl.when(row % 7 == 1).then(pl.lit("  ")).otherwise(pl.format(" {} ", "acre_lot")),
            city=pl.when(row % 11 == 1).then(pl.lit('A "b", \nc')).otherwise("city"),
        )
        .write_csv()
        .encode()
    )


def parquet(folder: Path) -> bytes:
    """Typed columns with values that are out of range, infinite or missing."""
    row = pl.int_range(ROWS)
    file = folder / "typed.parquet"
    table().with_columns(
        bed=pl.when(row % 3 == 0).then(-1.0).otherwise("bed"),
        bath=pl.when(row % 4 == 0).then(float("inf")).when(row % 4 == 1).then(float("nan")).otherwise("bath"),
        prev_sold_date=pl.col("prev_sold_date").str.to_date(),
        state=pl.col("state").cast(pl.Categorical),
        zip_code=pl.col("zip_code").cast(pl.Int32),
    ).write_parquet(file)
    return file.read_bytes()


def page_output(url: str, name: str, content: bytes) -> pl.DataFrame:
    """The table that the page offers for download."""

    def script(show, predictor):  # type: ignore[no-untyped-def]  # Streamlit runs its source without the names above
        show(predictor)

    page = AppTest.from_function(script, args=(files.show, Predictor(url, KEY)), default_timeout=60).run()
    page.file_uploader[0].set_value((name, content, "application/octet-stream")).run()
    page.button[0].click().run()
    assert not page.exception, page.exception
    assert not page.error, [error.value for error in page.error]
    output: pl.DataFrame = page.session_state["file result"].output
    return output


def batch_output(model: Model, name: str, content: bytes, folder: Path) -> pl.DataFrame:
    """The output of the batch job for the same file."""
    source, target = folder / name, folder / "out.parquet"
    source.write_bytes(content)
    champion = LoadedModel(ModelVersion(NAME, "1", "run-1", {}, ""), model.bundle, datetime.now(UTC))
    job.price_file(champion, source, target, "", lambda _: None)
    return pl.read_parquet(target)


@pytest.mark.parametrize("name", ["listings.csv", "listings.parquet"])
def test_prices_and_errors_are_those_of_the_batch_job(
    url: str, models: tuple[Model, Model], tmp_path: Path, name: str
) -> None:
    content = csv() if name.endswith(".csv") else parquet(tmp_path)
    expected = batch_output(models[0], name, content, tmp_path)
    output = page_output(url, name, content)
    for column in ("price", "low", "high"):
        bits = [[value if value is None else value.hex() for value in each[column]] for each in (output, expected)]
        assert bits[0] == bits[1], column
    assert output["error"].to_list() == expected["error"].to_list()
    added = job._COLUMNS.keys()
    assert output.drop("request_id", "position").columns == expected.columns
    assert output.select(expected.drop(added).columns).equals(expected.drop(added))
    priced = expected["error"].is_null()
    assert ROWS / 3 < priced.sum() < ROWS
    assert output.filter(priced)["model_version"].to_list() == expected.filter(priced)["model_version"].to_list()
    assert output["model_version"].null_count() == ROWS - priced.sum()
    assert output.filter(priced).select("request_id", "position").is_unique().all()
