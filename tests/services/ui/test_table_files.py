"""Files of listings: what is read from each format, and the error for each fault."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import ui
from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA
from predictor.batch.columns import check
from predictor.errors import InvalidBodyError
from predictor.pricing.listing import EXAMPLE, ListingParser, form_schema
from tests.services.ui.workbooks import Formula, workbook, workbook_of
from ui import table_files
from ui.fields import kinds
from ui.table_files import ListingTable, TableFileError, read, similar_field, template, to_csv, to_parquet

FIELDS = form_schema()["properties"]

texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=210)
numbers = some.floats().map(repr) | some.sampled_from(
    [
        "",
        " 3 ",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "=1+1",
        "3,5",
        "01001",
        "01001-1234",
        "1_000",
        "0x10",
        "\N{ARABIC-INDIC DIGIT THREE}",
    ]
)
dates = some.sampled_from(["2012-10-12", "2012-10-12T01:02:03Z", " 2012-10-12 ", "12.10.2012", "2012-13-12"])
rows_of_text = some.lists(
    some.fixed_dictionaries({name: some.none() | texts | numbers | dates for name in FIELDS}), min_size=1, max_size=8
)


def listings(name: str, content: bytes) -> list[dict[str, Any]]:
    """All rows of a file as the page sends them."""
    table = read(name, content, FIELDS)
    return table.listings(FIELDS, 0, table.frame.height)


def test_numeric_fields_of_the_schema_are_those_of_the_contract() -> None:
    numeric = {name for name, field in FIELDS.items() if "number" in kinds(field)}
    assert numeric == {name for name in FIELDS if RAW_SCHEMA[name] == pl.Float64()}


def test_template_has_every_field_and_reads_as_the_example() -> None:
    content = template(FIELDS)
    assert content.decode("utf-8-sig").splitlines()[0] == ",".join(FIELDS)
    assert listings("template.csv", content) == [EXAMPLE | {"zip_code": 1001.0}]


@given(
    rows=some.lists(
        some.fixed_dictionaries(
            {
                "city": some.text(
                    some.characters(exclude_categories=["Cs", "Cc"]) | some.sampled_from('\n",;'), min_size=1
                ),
                "bed": some.floats(allow_nan=False),
            }
        ),
        min_size=1,
        max_size=10,
    )
)
def test_written_files_read_as_the_same_values(rows: list[dict[str, Any]]) -> None:
    """Texts keep every character, and numbers every bit."""
    frame = pl.DataFrame(rows, schema={"city": pl.String, "bed": pl.Float64})
    for name, content in (("a.csv", to_csv(frame)), ("a.parquet", to_parquet(frame))):
        assert [(row["city"], row["bed"].hex()) for row in listings(name, content)] == [
            (row["city"], row["bed"].hex()) for row in rows
        ]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=rows_of_text)
def test_text_means_what_it_means_to_the_batch_job(rows: list[dict[str, str | None]]) -> None:
    """The same values and the same errors, for any text."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(FIELDS, pl.String))
    checked = check(frame, as_text=True)
    for row, listing in enumerate(ListingTable(frame, True, 2).listings(FIELDS, 0, len(rows))):
        assert_same(listing, checked.raw.slice(row, 1), checked.errors[row])


def test_types_of_parquet_mean_what_they_mean_to_the_batch_job() -> None:
    frame = pl.DataFrame(
        {
            "state": pl.Series(["Ohio", None], dtype=pl.Categorical),
            "prev_sold_date": pl.Series([date(2012, 10, 12), None], dtype=pl.Date),
            "acre_lot": pl.Series([Decimal("0.25"), None], dtype=pl.Decimal(10, 2)),
            "bed": pl.Series([3, 4], dtype=pl.UInt8),
            "bath": [float("nan"), float("inf")],
            "house_size": pl.Series([0.1, 1276.5], dtype=pl.Float32),
            "zip_code": ["01001-1234", "X"],
            "status": pl.Series([None, 2], dtype=pl.Int64),
        }
    )
    table = read("a.parquet", to_parquet(frame), FIELDS)
    checked = check(table.frame, as_text=False)
    for row, listing in enumerate(table.listings(FIELDS, 0, 2)):
        assert_same(listing, checked.raw.slice(row, 1), checked.errors[row])


def assert_same(listing: dict[str, Any], raw: pl.DataFrame, error: str | None) -> None:
    """`POST /predict` makes of a listing what the batch job made of its row."""
    refusal, parsed = None, []
    try:
        parsed, _ = ListingParser(1).parse(json.dumps([listing]).encode())
    except InvalidBodyError as invalid:
        refusal = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in invalid.errors)
    assert refusal == error
    if error is None:
        assert parse_listings(parsed).equals(raw)


def test_zip_codes_and_ids_keep_their_text() -> None:
    content = b"id,zip_code,bed\n0007,01001,3\n1e5,02134-1234,\n"
    table = read("A.CSV", content, FIELDS)
    assert table.frame.rows() == [("0007", "01001", "3"), ("1e5", "02134-1234", None)]
    assert table.listings(FIELDS, 0, 2) == [{"zip_code": 1001.0, "bed": 3.0}, {"zip_code": "02134-1234"}]
    assert table.unknown_columns(FIELDS) == ["id"]
    assert set(table.missing_fields(FIELDS)) == set(FIELDS) - {"zip_code", "bed"}


def test_listings_are_those_of_the_asked_rows() -> None:
    table = read("a.csv", b"bed\n0\n1\n2\n3\n", FIELDS)
    assert table.listings(FIELDS, 1, 3) == [{"bed": 1.0}, {"bed": 2.0}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfbed,city\n3,A\n", [{"bed": 3.0, "city": "A"}]),  # byte order mark
        (b"bed,city\r\n3,A\r\n", [{"bed": 3.0, "city": "A"}]),
        (b'bed,city\n3,"A ""b"", \nc"\n', [{"bed": 3.0, "city": 'A "b", \nc'}]),
        (b"bed,city\n=1+1,=HYPERLINK(1)\n", [{"bed": "=1+1", "city": "=HYPERLINK(1)"}]),
        (b"bed,city\n3,A\x00b\n", [{"bed": 3.0, "city": "A\x00b"}]),
        (b"bed,city\n1e400,\n", [{"bed": float("inf")}]),
        (b"bed,city\n3\n", [{"bed": 3.0}]),
        (b",bed\n0,3\n", [{"bed": 3.0}]),  # pandas writes its index without a name
        ("bed,city\n3,Añasco\n".encode(), [{"bed": 3.0, "city": "Añasco"}]),
    ],
)
def test_unusual_csv_is_read(content: bytes, expected: list[dict[str, Any]]) -> None:
    assert listings("a.csv", content) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"{}", "does not end with .csv, .xlsx, .parquet"),
        ("a", b"bed\n3\n", "does not end with"),
        ("a.csv", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.csv", b"bed,city\n", "has no rows of listings"),
        ("a.csv", b"\n\n", "The first row is empty"),
        ("a.csv", b"bed,city,bed\n1,A,2\n", "Several columns have the same name: 'bed'"),
        (
            "a.csv",
            b"beds,town\n1,A\n",
            "No column is a field of a listing. Use these names in the first row: status, bed,",
        ),
        ("a.csv", b"bed;city\n3;A\n", "separated by semicolons or tabs"),
        ("a.csv", b"bed\tcity\n3\tA\n", "separated by semicolons or tabs"),
        ("a.csv", "bed,city\n3,Añasco\n".encode("latin-1"), r"not UTF-8 text \(byte 13\)"),
        ("a.csv", "bed,city\n3,A\n".encode("utf-16"), "not UTF-8 text"),
        ("a.csv", b"bed,city\n3,A,4\n", "is damaged, or it is not a .csv file"),
        ("a.csv", b'bed,city\n3,"A\n', "is damaged, or it is not a .csv file"),
        ("a.csv", b'bed,city\n1,B\n3,"A\n4,C\n', "is damaged, or it is not a .csv file"),
        (
            "a.csv",
            b"bed,city\n" + b"1,B\n" * 99_990 + b'3,"A\n' + b"4,C\n" * 20,
            "is damaged, or it is not a .csv file",
        ),
        ("a.csv", b"bed" + b"," * 64 + b"\n1\n", "has 65 columns, at most 64"),
        ("a.csv", b"bed," + b"x" * 70_000 + b"\n1,2\n", "more than 65,536 characters"),
        ("a.csv", b"bed\n" + b"1\n" * 100_001, "more than 100,000 rows"),
        ("a.parquet", b"bed\n3\n", "is damaged, or it is not a .parquet file"),
        ("a.xlsx", b"bed\n3\n", "is damaged, or it is not a .xlsx file"),
        ("a.xlsx", b"PK\x03\x04" + b"\0" * 40, "is damaged, or it is not a .xlsx file"),
    ],
)
def test_fault_is_named(name: str, content: bytes, words: str) -> None:
    with pytest.raises(TableFileError, match=words):
        read(name, content, FIELDS)


def test_hundred_thousand_rows_are_accepted() -> None:
    assert read("a.csv", b"bed\n" + b"1\n" * 100_000, FIELDS).frame.height == 100_000
    assert read("a.parquet", to_parquet(pl.DataFrame({"bed": [1] * 100_000})), FIELDS).first_row == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"bed": [1], "tags": [["a"]]}, r"Column tags has the type List\(String\)"),
        ({"bed": [{"a": 1}]}, "Column bed has the type Struct"),
        ({"bed": [b"1"]}, "Column bed has the type Binary"),
        ({"bed": [1] * 100_001}, "more than 100,000 rows"),
        ({"bed": []}, "has no rows of listings"),
        ({f"c{at}": [1] for at in range(65)}, "has 65 columns"),
    ],
)
def test_fault_of_a_parquet_file_is_named(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(TableFileError, match=words):
        read("a.parquet", to_parquet(pl.DataFrame(columns)), FIELDS)


@pytest.mark.parametrize("damage", [lambda file: file[:-20], lambda file: file[:10] + b"\xff" * 30 + file[40:]])
def test_damaged_parquet_file_is_named(damage: Callable[[bytes], bytes]) -> None:
    """The second damage is in the data, so it is found while the rows are read."""
    content = to_parquet(pl.DataFrame({"bed": list(range(1000)), "city": ["A"] * 1000}))
    with pytest.raises(TableFileError, match=r"is damaged, or it is not a \.parquet file"):
        read("a.parquet", damage(content), FIELDS)


def test_number_of_rows_is_checked_before_a_parquet_file_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = to_parquet(pl.DataFrame({"bed": [1] * 6}))
    monkeypatch.setattr(table_files, "MAX_ROWS", 5)
    damaged = content[:4] + b"\xff" * 10 + content[14:]  # in the data: only decoding could find it
    with pytest.raises(TableFileError, match="more than 5 rows"):
        read("a.parquet", damaged, FIELDS)


def test_large_file_and_long_texts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = to_parquet(pl.DataFrame({"city": ["x" * 1000] * 100}))
    assert len(content) < 10_000, "the file has the text once"
    monkeypatch.setattr(table_files, "_MAX_UNPACKED_BYTES", 99_999)
    with pytest.raises(TableFileError, match="texts of the table are too long"):
        read("a.parquet", content, FIELDS)
    monkeypatch.setattr(table_files, "_MAX_BYTES", len(content) - 1)
    with pytest.raises(TableFileError, match="more than 25 MB"):
        read("a.parquet", content, FIELDS)


def test_server_refuses_uploads_above_the_limit_of_the_page() -> None:
    config = tomllib.loads((Path(ui.__path__[0]) / ".streamlit" / "config.toml").read_text())
    assert config["server"]["maxUploadSize"] == table_files.MAX_MEGABYTES


def test_workbook_keeps_texts_and_every_bit_of_numbers() -> None:
    """A column can hold numbers and texts. The package rounds numbers to nine decimals when it makes texts of them."""
    content = workbook(
        [
            ["id", "zip_code", "bed", "acre_lot", "prev_sold_date", "city", "bath"],
            ["0007", "01001", 3, 0.1 + 0.2, date(2012, 10, 12), "Agawam", 2.5],
            ["0008", 1001, " 4 ", 5e-324, "2001-02-03", None, "two"],
            [None, None, None, 1e22, None, "=1+1", Formula("1+1", 2.0)],
            [None, None, None, 0.123456789123456789, None, "A", Formula("1+1", None)],
        ]
    )
    table = read("a.xlsx", content, FIELDS)
    assert table.first_row == 2
    assert table.frame["id"].to_list() == ["0007", "0008", None, None]
    assert table.frame["zip_code"].to_list() == ["01001", "1001", None, None]
    rows = table.listings(FIELDS, 0, 4)
    assert rows[0].pop("prev_sold_date").startswith("2012-10-12")
    assert rows == [
        {"zip_code": 1001.0, "bed": 3.0, "acre_lot": 0.1 + 0.2, "city": "Agawam", "bath": 2.5},
        {"zip_code": 1001.0, "bed": 4.0, "acre_lot": 5e-324, "prev_sold_date": "2001-02-03", "bath": "two"},
        {"acre_lot": 1e22, "city": "=1+1", "bath": 2.0},
        {"acre_lot": 0.123456789123456789, "city": "A"},
    ]


def test_date_cell_of_a_workbook_is_a_valid_date() -> None:
    [listing] = listings("a.xlsx", workbook([["prev_sold_date"], [date(2012, 10, 12)]]))
    [parsed], _ = ListingParser(1).parse(json.dumps([listing]).encode())
    assert parsed["prev_sold_date"] == "2012-10-12"


def test_row_numbers_of_a_workbook_count_empty_rows_except_at_the_end() -> None:
    table = read("a.xlsx", workbook([["bed", "city"], [3, "A"], [None], [5, "B"], ["", ""], [None]]), FIELDS)
    assert [row.get("bed") for row in table.listings(FIELDS, 0, table.frame.height)][:3] == [3.0, None, 5.0]
    assert table.frame.height <= 4


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"A1": "bed", "A2": 1, "A1048576": 2}, "more than 100,000 rows"),
        ({"A1": "bed", "A2": 1, "XFD2": 2}, "has 16,384 columns"),
        ({"A1": "bed", "B1": "bed", "A2": 1, "B2": 2}, "Several columns have the same name: 'bed'"),
        ({"A1": "beds", "A2": 1}, "No column is a field of a listing"),
        ({"A1": "bed"}, "has no rows of listings"),
        ({}, "empty|damaged"),
    ],
)
def test_fault_of_a_workbook_is_named(cells: dict[str, Any], words: str) -> None:
    """The first two would end the process: the decoder allocates the rectangle that contains all cells."""
    with pytest.raises(TableFileError, match=words):
        read("a.xlsx", workbook_of(cells), FIELDS)


def test_workbook_that_is_large_when_unpacked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(TableFileError, match="too large when it is unpacked"):
        read("a.xlsx", workbook([["bed", "city"], [1, "x" * 10_000]]), FIELDS)


def test_cell_is_found_across_the_pieces_of_a_workbook(monkeypatch: pytest.MonkeyPatch) -> None:
    content = workbook_of({"A1": "bed", "A2": 1, "A1048576": 2})
    for size in range(64, 128):
        monkeypatch.setattr(table_files, "_PIECE_BYTES", size)
        with pytest.raises(TableFileError, match="more than 100,000 rows"):
            read("a.xlsx", content, FIELDS)


@pytest.mark.parametrize(
    ("column", "field"), [("zipcode", "zip_code"), ("Bed", "bed"), (" House_Size ", "house_size"), ("notes", None)]
)
def test_nearly_correct_name_of_a_column_is_recognised(column: str, field: str | None) -> None:
    assert similar_field(column, FIELDS) == field
