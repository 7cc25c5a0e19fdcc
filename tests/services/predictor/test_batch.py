"""Rows of a file get the prices or the errors of `/predict`. No row is lost, and the output appears complete."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from core.errors import BundleError, RegistryError
from core.stores.registry import ModelVersion
from predictor.batch import job
from predictor.command_line import main
from predictor.errors import InvalidBodyError
from predictor.pricing.listing import EXAMPLE, STATES
from predictor.pricing.price import Pricing
from predictor.serving.follower import FollowerState
from predictor.serving.loader import LoadedModel
from tests.kit.small_models import Model, listings

from .conftest import NAME, Registry, trusted

ADDED = ["price", "low", "high", "model_version", "error"]

floats = some.none() | some.floats(allow_nan=False) | some.floats(-10, 10_000)
texts = some.none() | some.text(some.characters(exclude_categories=["Cs"]), max_size=210) | some.sampled_from(STATES)
dates = some.sampled_from(["2012-10-12", "2012-10-12T01:02:03Z", " 2012-10-12 ", "", "2012-13-12", "12.10.2012", "0"])
zips = some.from_regex(r"[0-9]{1,6}(-[0-9]{4})?", fullmatch=True) | some.sampled_from(["", " 01001 ", "1001.0", "A"])
rows = some.lists(
    some.fixed_dictionaries(
        {
            **dict.fromkeys(("bed", "bath", "acre_lot", "house_size", "street"), floats),
            "brokered_by": some.none() | some.integers(-1, 2**60),
            **dict.fromkeys(("status", "city", "state"), texts),
            "zip_code": some.none() | zips,
            "prev_sold_date": some.none() | dates | texts,
        }
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="session")
def champion(models: tuple[Model, Model]) -> LoadedModel:
    return LoadedModel(ModelVersion(NAME, "7", "run-7", {}, ""), models[0].bundle, datetime.now(UTC))


@pytest.fixture(scope="session")
def answered(champion: LoadedModel) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """The answer of `/predict` for one listing: price, low, high, and the errors as one text."""
    pricing = Pricing(SimpleNamespace(state=FollowerState(champion, None)), 1, 1)  # type: ignore[arg-type]

    def answer(listing: dict[str, Any]) -> tuple[Any, ...]:
        try:
            body = pricing.answer(json.dumps(listing).encode(), "r")
        except InvalidBodyError as invalid:
            return None, None, None, "; ".join(f"{error['loc'][1]}: {error['msg']}" for error in invalid.errors)
        return body["price"], body["low"], body["high"], None

    return answer


def priced(champion: LoadedModel, frame: pl.DataFrame, as_text: bool = False) -> list[tuple[Any, ...]]:
    return job.price(champion, frame, as_text).drop("model_version").rows()


@pytest.mark.filterwarnings("ignore:overflow")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150, deadline=None)
@given(rows=rows)
def test_row_gets_the_answer_of_the_same_listing_in_a_request(
    champion: LoadedModel, answered: Callable[[dict[str, Any]], tuple[Any, ...]], rows: list[dict[str, Any]]
) -> None:
    """The same price to the last bit, and the same error messages."""
    finite = [{name: str(v) if v in (np.inf, -np.inf) else v for name, v in row.items()} for row in rows]
    for result, row, sent in zip(priced(champion, pl.DataFrame(rows, infer_schema_length=None)), rows, finite,
                                  strict=True):  # fmt: skip
        expected = answered(sent)
        assert result[:3] == expected[:3]
        if sent == row:
            assert result[3] == expected[3]
        else:  # JSON has no infinity
            assert result[3]


def test_many_rows_get_the_same_prices_as_each_alone(
    champion: LoadedModel, answered: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> None:
    frame = listings(300).drop("price")
    assert priced(champion, frame) == [answered(row) for row in frame.to_dicts()]


def test_types_of_parquet_columns_are_converted(
    champion: LoadedModel, answered: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> None:
    """Dates, decimals and categories of Parquet, and NaN, which some programs write instead of null."""
    typed = pl.DataFrame(
        {
            "state": pl.Series(["Ohio", None], dtype=pl.Categorical),
            "prev_sold_date": pl.Series([date(2012, 10, 12), None], dtype=pl.Date),
            "acre_lot": pl.Series([Decimal("0.25"), None], dtype=pl.Decimal(10, 2)),
            "bed": pl.Series([3, 4], dtype=pl.UInt8),
            "bath": [float("nan"), 2.0],
            "zip_code": ["01001-1234", None],
        }
    )
    plain = [
        {"state": "Ohio", "prev_sold_date": "2012-10-12", "acre_lot": 0.25, "bed": 3, "zip_code": 1001},
        {"bed": 4, "bath": 2},
    ]
    assert priced(champion, typed) == [answered(row) for row in plain]


def test_values_of_wrong_types_give_errors(champion: LoadedModel) -> None:
    frame = pl.DataFrame({"bed": ["3", "x"], "state": [1, 2], "bath": [True, None], "city": ["A", "B"]})
    [first, second] = priced(champion, frame)
    assert first[:3] == second[:3] == (None, None, None)
    assert first[3].split("; ") == ["bed: Input should be a valid number", "bath: Input should be a valid number",
                                    "state: Input should be a valid string"]  # fmt: skip
    assert "bath" not in second[3]


def test_text_of_csv_is_parsed_as_numbers(
    champion: LoadedModel, answered: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> None:
    texts = [
        ({"bed": " 3 ", "house_size": "1276.0", "zip_code": "01001"}, {"bed": 3, "house_size": 1276, "zip_code": 1001}),
        ({"bed": "", "house_size": "  ", "zip_code": "1001.0"}, {"zip_code": 1001}),
        ({"bed": "1e1", "house_size": None, "zip_code": "01001-1234"}, {"bed": 10, "zip_code": 1001}),
        ({"bed": "three", "house_size": "1", "zip_code": "x"}, {"bed": "three", "house_size": 1, "zip_code": "x"}),
        ({"bed": "-1", "house_size": "1", "zip_code": "1"}, {"bed": -1, "house_size": 1, "zip_code": 1}),
    ]
    results = priced(champion, pl.DataFrame([text for text, _ in texts]), as_text=True)
    assert results == [answered(listing) for _, listing in texts]


@pytest.fixture
def shop(registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and a registry with two versions, the second of which has the alias."""
    registry.add(models[0])
    registry.add(models[1])
    monkeypatch.setattr(job, "RegistryClient", lambda *_, **__: registry)
    for name in ("champion_check", "trained_check"):
        monkeypatch.setattr(job, name, lambda _: trusted)
    for name, value in (
        ("MODEL_NAME", NAME), ("MODEL_ALIAS", "champion"), ("MLFLOW_TRACKING_URI", "http://mlflow"),
        ("LEDGER_DSN", "postgresql://ledger"),
        ("BUNDLE_DIR", str(tmp_path / "bundles")),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(source: object, target: object, *more: str) -> int:
    return main(["batch", "--input", str(source), "--output", str(target), *more])


def test_rows_keep_their_order_and_all_columns(shop: Path, models: tuple[Model, Model]) -> None:
    """The job reads a file in pieces, at least one per row group."""
    frame = listings(400).drop("price").with_columns(id=pl.int_range(400), tags=pl.lit([["a", "b"]]))
    frame.write_parquet(shop / "in.parquet", row_group_size=70)
    assert ask("in.parquet", "out.parquet") == 0
    output = pl.read_parquet(shop / "out.parquet")
    assert output.drop(ADDED).equals(frame)
    assert output["price"].to_list() == models[1].bundle.predict(listings(400)).tolist()
    assert output["error"].null_count() == 400
    assert output["model_version"].unique().to_list() == ["2"]


def test_csv_keeps_its_text_and_its_invalid_rows(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "in.csv").write_text('note,bed,zip_code\n"a ""quoted"", one",3,01001\n,none,1\nlast,,\n')
    assert ask(f"file://{shop}/in.csv", shop / "new folder" / "out.parquet") == 0
    output = pl.read_parquet(shop / "new folder" / "out.parquet")
    assert output.select("note", "bed", "zip_code").rows() == [
        ('a "quoted", one', "3", "01001"), (None, "none", "1"), ("last", None, None),
    ]  # fmt: skip
    assert output["error"].to_list() == [None, "bed: Input should be a valid number", None]
    assert output["price"].is_null().to_list() == [False, True, False]
    assert "3 rows" in (printed := capsys.readouterr().out)
    assert "1 without a price" in printed


def test_file_without_rows_gives_a_file_without_rows(shop: Path) -> None:
    frame = pl.DataFrame({"bed": [1.0]}).clear()
    frame.write_parquet(shop / "in.parquet")
    assert ask("in.parquet", "out.parquet") == 0
    output = pl.read_parquet(shop / "out.parquet")
    assert output.drop(ADDED).equals(frame)
    assert output.columns == ["bed", *ADDED]


def test_input_with_the_name_of_an_added_column_needs_a_prefix(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = listings(20)
    frame.write_parquet(shop / "in.parquet")
    assert ask("in.parquet", "out.parquet") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "batch: failed: the input already has the columns price: set a --prefix for the added columns"
    )
    assert not (shop / "out.parquet").exists()
    assert ask("in.parquet", "out.parquet", "--prefix", "model_") == 0
    output = pl.read_parquet(shop / "out.parquet")
    assert output.columns == [*frame.columns, *(f"model_{name}" for name in ADDED)]
    assert output["price"].equals(frame["price"])


def test_repeated_run_gives_the_same_bytes(shop: Path) -> None:
    listings(400).drop("price").write_parquet(shop / "in.parquet")
    contents = []
    for _ in range(2):
        assert ask("in.parquet", "out.parquet") == 0
        contents.append((shop / "out.parquet").read_bytes())
    assert contents[0] == contents[1]
    assert sorted(path.name for path in shop.iterdir()) == ["bundles", "in.parquet", "out.parquet"]


def test_chosen_version_is_used_and_downloaded_once(
    shop: Path, models: tuple[Model, Model], registry: Registry
) -> None:
    listings(50).drop("price").write_parquet(shop / "in.parquet")
    for _ in range(2):
        assert ask("in.parquet", "out.parquet", "--version", "1") == 0
    output = pl.read_parquet(shop / "out.parquet")
    assert output["price"].to_list() == models[0].bundle.predict(listings(50)).tolist()
    assert output["model_version"].unique().to_list() == ["1"]
    assert registry.downloads == ["1"]
    assert not (shop / "bundles" / "served.json").exists(), "a server must not start with it"


def break_registry(registry: Registry, _: Path) -> None:
    registry.broken = RegistryError("MLflow does not answer")


def no_alias(registry: Registry, _: Path) -> None:
    registry.named = None


def refuse(registry: Registry, _: Path) -> None:
    registry.broken_download = BundleError("it has 101 files")


def no_input(_: Registry, shop: Path) -> None:
    (shop / "in.parquet").unlink()


def truncate(_: Registry, shop: Path) -> None:
    (shop / "in.parquet").write_bytes((shop / "in.parquet").read_bytes()[:-20])


def use_another_separator(_: Registry, shop: Path) -> None:
    pl.DataFrame({"bed;bath": ["1;2"]}).write_parquet(shop / "in.parquet")


def nest(_: Registry, shop: Path) -> None:
    pl.DataFrame({"bed": [[1]]}).write_parquet(shop / "in.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_registry, "MLflow does not answer"),
        (no_alias, "no version of house-price is champion: run the pipeline, or name another version"),
        (refuse, "version 2 of house-price is refused: it has 101 files"),
        (no_input, r"the folder store failed on .*in\.parquet: .*No such file"),
        (truncate, r"in\.parquet cannot be priced: .*arquet"),
        (use_another_separator, r"no column is a field of a listing \(status, bed, .*\): use these names"),
        (nest, r"column bed has the type List\(Int64\), but a field of a listing is one number or one text"),
    ],
)
def test_failure_prints_one_sentence_and_keeps_the_old_output(
    shop: Path,
    registry: Registry,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Registry, Path], None],
    message: str,
) -> None:
    listings(5).drop("price").write_parquet(shop / "in.parquet")
    (shop / "out.parquet").write_bytes(b"old output")
    damage(registry, shop)
    assert ask("in.parquet", "out.parquet") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert re.search(rf"^batch: failed: .*{message}[^\n]*$", output.err.splitlines()[-1])
    assert (shop / "out.parquet").read_bytes() == b"old output"
    assert not list(shop.glob(".draft-*"))


def test_unknown_version_is_reported(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listings(5).drop("price").write_parquet(shop / "in.parquet")
    assert ask("in.parquet", "out.parquet", "--version", "9") == 1
    assert "there is no version 9 of house-price" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("in.json", "out.parquet", "the name of the input in.json must end with .parquet or .csv"),
        ("in.csv", "out.csv", "the name of the output out.csv must end with .parquet"),
        ("a.parquet", "a.parquet", "a.parquet is input and output"),
        ("ftp://host/in.csv", "out.parquet", "'ftp://host/in.csv' is not a valid location"),
        ("s3://bucket/in.csv", "out.parquet", "use s3://bucket and set S3_ENDPOINT"),
    ],
)
def test_invalid_location_is_reported(
    shop: Path, capsys: pytest.CaptureFixture[str], source: str, target: str, message: str
) -> None:
    assert ask(source, target) == 1
    assert message in capsys.readouterr().err


def test_missing_setting_is_named_with_its_chart_value(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL_ALIAS")
    assert ask("in.csv", "out.parquet") == 1
    assert "MODEL_ALIAS (chart: fastapi.config.modelAlias): field required" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["batch"], ["batch", "--input", "in.csv"], ["other"]])
def test_wrong_arguments_give_exit_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_progress_has_rows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 104.0, 110.0, 111.0])
    monkeypatch.setattr(job.time, "monotonic", lambda: next(now))
    messages: list[str] = []
    progress = job.Progress(40_000, messages.append)
    for _ in range(3):
        progress.add(10_000, 1)
    assert messages == ["20,000 of 40,000 rows (50%), 2,000 rows/s, 0:00:10 left"]
    assert (progress.rows, progress.without_price) == (30_000, 3)


def test_example_listing_gets_the_price_of_predict(
    champion: LoadedModel, answered: Callable[[dict[str, Any]], tuple[Any, ...]]
) -> None:
    assert priced(champion, pl.DataFrame([EXAMPLE])) == [answered(EXAMPLE)]
