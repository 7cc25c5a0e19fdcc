"""Reads listings from CSV, Excel and Parquet files, and writes tables. It knows the fields from the schema only."""

from __future__ import annotations

import csv
import difflib
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import fastexcel
import polars as pl

from ui.fields import example, kinds
from ui.predictor import Json
from ui.texts import Text

MAX_ROWS = 100_000
MAX_COLUMNS = 64  # a listing has 11 fields
MAX_MEGABYTES = 25  # of a file; `.streamlit/config.toml` has the same limit for uploads
_MAX_BYTES = MAX_MEGABYTES * 2**20
_MAX_UNPACKED_BYTES = 128 * 2**20  # of the texts of a table, and of the parts of a workbook, which is a ZIP archive
_MAX_HEADER_CHARACTERS = 2**16  # of the header of a CSV file
_PIECE_BYTES, _OVERLAP_BYTES = 2**20, 64  # to search a part of a workbook; the overlap is longer than a match
_CELL = re.compile(rb"""\br=["']([A-Z]{1,4})([0-9]{1,9})["']""")


class TableFileError(Exception):
    """A file that cannot be priced. `reason` says what is wrong with it and what to do."""

    def __init__(self, template: str, **values: object) -> None:
        self.reason = Text(template, **values)
        super().__init__(self.reason)


@dataclass(frozen=True)
class ListingTable:
    """The content of a file, with at least one row and at least one field of a listing."""

    frame: pl.DataFrame  # the columns of the file, in its order
    as_text: bool  # all columns are text, because the file has no types (CSV) or types per cell (Excel)
    first_row: int  # number of the first row for people: 2 below a header, 1 in Parquet

    def unknown_columns(self, fields: Json) -> list[str]:
        """The columns that are not fields of a listing."""
        return [name for name in self.frame.columns if name not in fields]

    def missing_fields(self, fields: Json) -> list[str]:
        """The fields of a listing that have no column."""
        return [name for name in fields if name not in self.frame.columns]

    def listings(self, fields: Json, start: int, stop: int) -> list[Json]:
        """The rows from `start` to before `stop` as `POST /predict` takes them, without nulls and unknown columns.

        The values are those of the batch job (`predictor.batch.columns`), so the prices are equal to the last bit: NaN
        counts as null, dates become text, and with `as_text` a text that is a number becomes this number. Other texts
        stay, and the predictor refuses them.
        """
        part = self.frame.slice(start, stop - start)
        names = [name for name in fields if name in part.columns]
        columns = [_values(part[name], self.as_text and "number" in kinds(fields[name])) for name in names]
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(*columns, strict=True)
        ]


def read(name: str, content: bytes, fields: Json) -> ListingTable:
    """Read a file. The suffix of its name gives the format. Limits are checked before decoding where that is possible.

    Args:
        name: of the file; it ends with `.csv`, `.xlsx` or `.parquet`.
        content: of the file.
        fields: JSON schemas of the fields of a listing, by name.

    Raises:
        TableFileError: the file is damaged, empty or too large, or its columns are wrong.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in _READERS:
        raise TableFileError(
            "The name {name} does not end with {suffixes}: save the table in such a format.",
            name=name,
            suffixes=", ".join(_READERS),
        )
    if not content:
        raise TableFileError("{name} is empty.", name=name)
    if len(content) > _MAX_BYTES:
        raise TableFileError(
            "{name} has more than {limit} MB: split it, or use the batch job.", name=name, limit=MAX_MEGABYTES
        )
    try:
        table = _READERS[suffix](content)
    except _DAMAGES as error:
        reason = str(error).partition("\n")[0]
        raise TableFileError(
            "{name} is damaged, or it is not a {suffix} file: {reason}", name=name, suffix=suffix, reason=reason
        ) from error
    if table.frame.is_empty():
        raise TableFileError("{name} has no rows of listings.", name=name)
    _check_height(table.frame.height)
    _check_texts(table.frame)
    _check_fields(table.frame.columns, fields)
    return table


def template(fields: Json) -> bytes:
    """A CSV file with a column for each field, and one row with the examples of the schema."""
    row = {name: None if (value := example(field)) is None else str(value) for name, field in fields.items()}
    return to_csv(pl.DataFrame([row], schema=dict.fromkeys(fields, pl.String)))


def to_csv(frame: pl.DataFrame) -> bytes:
    """The frame as CSV. Numbers have all their digits.

    It begins with a byte order mark, because Excel needs it to read the file as UTF-8.
    """
    return frame.write_csv(include_bom=True).encode()


def to_parquet(frame: pl.DataFrame) -> bytes:
    """The frame as Parquet."""
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def similar_field(column: str, fields: Collection[str]) -> str | None:
    """The field whose name is nearly that of a column; None if there is none."""
    return next(iter(difflib.get_close_matches(column.strip().lower(), fields, 1, 0.75)), None)


def _values(column: pl.Series, as_numbers: bool) -> list[Any]:
    """The values in the types of JSON, as `predictor.batch.columns` makes them."""
    kind = column.dtype
    if kind.is_float():
        column = column.fill_nan(None)
    elif kind.is_decimal():
        column = column.cast(pl.Float64)
    elif kind.is_temporal() or kind in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if not as_numbers:
        return column.to_list()
    texts = column.str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    return [text or None if number is None else number for text, number in zip(texts, numbers, strict=True)]


def _read_csv(content: bytes) -> ListingTable:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableFileError(
            "The file is not UTF-8 text (byte {position}): save it as CSV UTF-8, or upload it as .xlsx.",
            position=error.start + 1,
        ) from error
    lines = io.StringIO(text[:_MAX_HEADER_CHARACTERS], newline="")
    names = next(csv.reader(lines), [])
    if lines.tell() == _MAX_HEADER_CHARACTERS < len(text):
        raise TableFileError(
            "The first row has more than {limit} characters: put only names there.", limit=_MAX_HEADER_CHARACTERS
        )
    _check_names(names)

    def rows(limit: int | None) -> pl.DataFrame:
        return pl.read_csv(io.BytesIO(content), infer_schema=False, n_rows=limit)

    if content.count(b"\n") > MAX_ROWS + 1:
        _check_height(rows(MAX_ROWS + 1).height)
    # with a limit, Polars drops the rows from an unclosed quotation mark on; without one it reports them
    return ListingTable(rows(None), True, 2)


def _read_parquet(content: bytes) -> ListingTable:
    rows = pl.scan_parquet(io.BytesIO(content))
    schema = rows.collect_schema()
    _check_names(schema.names())
    _check_height(rows.select(pl.len()).collect().item())  # reads the metadata only
    for name, kind in schema.items():
        if kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Duration):
            raise TableFileError(
                "Column {name} has the type {kind}: remove it, or change it to numbers or texts.", name=name, kind=kind
            )
    return ListingTable(rows.collect(), False, 1)


def _read_workbook(content: bytes) -> ListingTable:
    """The first sheet of a workbook, as text: a column can hold both numbers and texts such as `01001`."""
    _check_workbook(content)
    workbook = fastexcel.read_excel(content)
    texts, numbers = _sheet(workbook, "string"), _sheet(workbook, "float")
    # fastexcel rounds a number to nine decimals when it converts it to text, so these texts come from the numbers
    exact = texts.with_columns(
        number.cast(pl.String).zip_with((text.cast(pl.Float64, strict=False) != number).fill_null(False), text)
        for text, number in zip(texts, numbers, strict=True)
    )
    if exact.is_empty():
        raise TableFileError("The first sheet is empty.")
    used = [column for column in exact if column.null_count() < len(column)]  # others have neither a name nor values
    names = [column[0] or "" for column in used]
    _check_names(names)
    rows = pl.DataFrame(dict(zip(names, used, strict=True))).slice(1)
    filled = rows.select(~pl.all_horizontal(pl.all().is_null())).to_series().arg_true()
    return ListingTable(rows.head(int(filled[-1]) + 1 if len(filled) else 0), True, 2)  # without empty rows at the end


def _sheet(workbook: Any, kind: Literal["string", "float"]) -> pl.DataFrame:
    """The first sheet with its header as a row. Cells that cannot be converted are null."""
    return pl.DataFrame(workbook.load_sheet(0, header_row=None, n_rows=MAX_ROWS + 2, dtypes=kind))


def _check_workbook(content: bytes) -> None:
    """Check the limits before the cells are decoded.

    The decoder allocates the whole rectangle that contains all cells, so two cells far apart would end the process
    (github.com/tafia/calamine/issues/693).
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > _MAX_UNPACKED_BYTES:
            raise TableFileError("The workbook is too large when it is unpacked: save only the table, as a CSV file.")
        for part in parts:
            if part.filename.lower().endswith(".xml"):
                with archive.open(part) as stream:
                    _check_cells(stream.read)


def _check_cells(read_piece: Callable[[int], bytes]) -> None:
    overlap = b""
    while piece := read_piece(_PIECE_BYTES):
        cells = _CELL.findall(overlap + piece)
        _check_height(max((int(row) for _, row in cells), default=1) - 1)
        _check_width(max(map(_column_number, {letters for letters, _ in cells}), default=0))
        overlap = piece[-_OVERLAP_BYTES:]


def _column_number(letters: bytes) -> int:
    """The number of a column by its letters: 1 for `A`, 27 for `AA`."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise TableFileError("The first row is empty: put the names of the columns there.")
    _check_width(len(names))
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        named = ", ".join(repr(name) for name in repeated)
        raise TableFileError("Several columns have the same name: {names}. Rename or remove all but one.", names=named)


def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise TableFileError(
            "The table has {columns} columns, at most {limit} are allowed: remove some.",
            columns=columns,
            limit=MAX_COLUMNS,
        )


def _check_height(rows: int) -> None:
    if rows > MAX_ROWS:
        raise TableFileError(
            "The table has more than {limit} rows: split the file, or use the batch job.", limit=MAX_ROWS
        )


def _check_texts(frame: pl.DataFrame) -> None:
    """Check the length of all texts. A small file can hold much text, because compression stores a repetition once."""
    sizes = frame.select(pl.col(pl.String).str.len_bytes().cast(pl.UInt64).sum())
    if sizes.width and sizes.sum_horizontal().item() > _MAX_UNPACKED_BYTES:
        raise TableFileError("The texts of the table are too long: remove columns that are not fields of a listing.")


def _check_fields(names: Sequence[str], fields: Json) -> None:
    if any(name in fields for name in names):
        return
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise TableFileError(
            "The columns are separated by semicolons or tabs: save the file with commas and decimal points, or upload "
            "it as .xlsx."
        )
    raise TableFileError(
        "No column is a field of a listing. Use these names in the first row: {names}.", names=", ".join(fields)
    )


_READERS: dict[str, Callable[[bytes], ListingTable]] = {
    ".csv": _read_csv,
    ".xlsx": _read_workbook,
    ".parquet": _read_parquet,
}
_DAMAGES: tuple[type[BaseException], ...] = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,  # Polars raises it for some damaged files
    fastexcel.FastExcelError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # zipfile: an unusual compression
    RuntimeError,  # zipfile: an encrypted part
    OSError,
    ValueError,
)
