"""The page `Files`: prices every listing of an uploaded file, and shows the errors of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

import polars as pl
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from ui.file_prices import ADDED, PricedRows, price_rows
from ui.language import _, dollars, number, translated
from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError, RetryLaterError
from ui.table_files import (
    MAX_MEGABYTES,
    MAX_ROWS,
    ListingTable,
    TableFileError,
    read,
    similar_field,
    template,
    to_csv,
    to_parquet,
)
from ui.words import escaped

SHOWN_ROWS, SHOWN_ERRORS, SHOWN_NAMES = 100, 1_000, 12  # at most, on the page; the downloads have all
VALUE_CHARACTERS = 100  # of an invalid value
_PREFIX = "estimated_"  # of the added columns, if the file has such names
# In the session's state: the result, so that a download does not ask for the prices again; and a file of which only the
# first rows are finished.
_RESULT, _UNFINISHED = "file result", "unfinished file"


@dataclass(frozen=True)
class FileResult:
    """The priced rows of an uploaded file."""

    name: str
    output: pl.DataFrame  # the columns of the file, and then `added`
    added: tuple[str, ...]  # names of the columns `ADDED`, in their order
    errors: pl.DataFrame  # Row, Field, Value and Rule of each error


@dataclass
class UnfinishedFile:
    """A file that is being priced, or whose pricing stopped because of an `error`."""

    upload: str  # id of the upload
    priced: PricedRows
    error: PredictorError | None = None


def show(predictor: Predictor) -> None:
    """Show the upload, and the prices below it. A new upload replaces the prices of the last one."""
    st.title(_("Prices of a file"))
    st.caption(
        _(
            "Upload a table of listings: CSV, Excel or Parquet, up to {rows} rows and {size} MB. Each row gets the "
            "price that the page *Price* and the batch job give. Empty cells count as unknown.",
            rows=MAX_ROWS,
            size=MAX_MEGABYTES,
        )
    )
    try:
        fields: Json = predictor.schema()["properties"]
    except PredictorError as error:
        trouble(error)
        return
    st.download_button(
        _("Download a template"),
        template(fields),
        "listings.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/table:",
        help=_("A CSV file with a column for each field and one example. Excel can open it."),
    )
    upload = st.file_uploader(
        _("Listings"),
        ["csv", "xlsx", "parquet"],
        key="listings file",
        on_change=_forget,
        max_upload_size=MAX_MEGABYTES,
        help=_(
            "The first row must have the names of the fields. The page reads the first sheet of an Excel file. A CSV "
            "file must have commas between its columns, decimal points, and UTF-8 text."
        ),
    )
    if upload is not None and _RESULT not in st.session_state:
        result = _price_upload(predictor, upload, fields)
        if result:
            st.session_state[_RESULT] = result
            st.session_state.pop(_UNFINISHED, None)
    if _RESULT in st.session_state:
        _show_result(st.session_state[_RESULT])


def _forget() -> None:
    """Clear the prices of the last file."""
    for name in (_RESULT, _UNFINISHED):
        st.session_state.pop(name, None)


def _price_upload(predictor: Predictor, upload: UploadedFile, fields: Json) -> FileResult | None:
    """Show what the file has, and the button. The prices after the button was pressed, else None."""
    try:
        table = read(upload.name, upload.getvalue(), fields)
    except TableFileError as error:
        st.error(escaped(translated(error.reason)), icon=":material/error:")
        return None
    st.caption(_("Rows: {count}.", count=table.frame.height))
    _show_columns(table, fields)
    added = _added_names(table)
    file = _unfinished(upload.file_id, table.frame.height)
    notice, action = st.empty(), st.empty()  # both disappear when the button is pressed
    label = _("Continue") if file.priced.done else _("Estimate the prices")
    if not added or not action.button(label, type="primary", icon=":material/sell:"):
        with notice.container():
            _show_unfinished(file)
        return None
    action.empty()
    st.session_state[_UNFINISHED] = file
    file.error = None
    try:
        _price_rows(predictor, table, fields, file.priced)
    except PredictorError as error:
        file.error = error
        st.rerun()  # shows the error, and the button with its new label
    columns = file.priced.columns().rename(dict(zip(ADDED, added, strict=True)))
    return FileResult(upload.name, table.frame.hstack(columns), added, _error_table(table, file.priced))


def _unfinished(upload: str, rows: int) -> UnfinishedFile:
    """This upload with its finished rows."""
    file: UnfinishedFile | None = st.session_state.get(_UNFINISHED)
    return file if file and file.upload == upload else UnfinishedFile(upload, PricedRows.none(rows))


def _show_unfinished(file: UnfinishedFile) -> None:
    """Show the error that ended the pricing of a file, and which rows are finished."""
    if file.error:
        trouble(file.error)
    done, rows = file.priced.done, len(file.priced.prices)
    if done:
        st.caption(_("The first {done} of {all} rows are finished, and their prices are kept.", done=done, all=rows))


def _price_rows(predictor: Predictor, table: ListingTable, fields: Json, priced: PricedRows) -> None:
    """Price the remaining rows, with a progress bar."""
    rows = table.frame.height
    bar = st.progress(priced.done / rows, _("Waiting for the predictor"))

    def report(failed: RetryLaterError | None) -> None:
        text = _("{done} of {all} rows", done=priced.done, all=rows)
        bar.progress(priced.done / rows, f"{text}. {translated(failed.happened)}" if failed else text)

    try:
        price_rows(predictor, partial(table.listings, fields), priced, report)
    finally:
        bar.empty()


def _show_columns(table: ListingTable, fields: Json) -> None:
    """Name the columns that do not count, and the fields that are unknown in all rows."""
    missing = table.missing_fields(fields)
    unknown = table.unknown_columns(fields)
    for column in unknown:
        field = similar_field(column, missing)
        if field:
            st.warning(
                _(
                    "Column {column} is not a field of a listing. If it has the values of *{field}*, rename it and "
                    "upload the file again.",
                    column=escaped(column),
                    field=escaped(field),
                ),
                icon=":material/warning:",
            )
    if unknown:
        st.caption(_("Columns that stay in the result but do not change a price: {names}.", names=_listed(unknown)))
    if missing:
        st.caption(_("Fields without a column, which count as unknown: {names}.", names=_listed(missing)))


def _added_names(table: ListingTable) -> tuple[str, ...]:
    """Names of the added columns. Asks for a prefix if the file has such a name; empty if the prefix does not help."""
    names = tuple(ADDED)
    if not set(names) & set(table.frame.columns):
        return names
    prefix = st.text_input(
        _("Prefix of the added columns"),
        _PREFIX,
        max_chars=30,
        help=_("The file already has a column with the name of an added one ({names}).", names=", ".join(names)),
    )
    prefixed = tuple(f"{prefix}{name}" for name in names)
    taken = [name for name in prefixed if name in table.frame.columns]
    if not taken:
        return prefixed
    message = _("The file already has these columns: {names}. Enter another prefix.", names=_listed(taken))
    st.error(message, icon=":material/error:")
    return ()


def _error_table(table: ListingTable, priced: PricedRows) -> pl.DataFrame:
    """One row per error, with the number of the row as people count and the value as text."""
    rows = [
        (
            table.first_row + error.row,
            error.field,
            str(table.frame[error.field][error.row])[:VALUE_CHARACTERS] if error.field else None,
            error.rule,
        )
        for error in priced.errors
    ]
    schema = {"Row": pl.Int64(), "Field": pl.String(), "Value": pl.String(), "Rule": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _show_result(result: FileResult) -> None:
    """Show figures, the first rows, the errors, and the downloads."""
    st.header(_("Prices of {file}", file=escaped(result.name)))
    price, low, high, version = result.added[:4]
    prices = result.output[price]
    columns = st.columns(3)
    columns[0].metric(_("Rows with a price"), number(len(prices) - prices.null_count()))
    columns[1].metric(_("Rows with errors"), number(prices.null_count()))
    median = prices.median()
    columns[2].metric(_("Median price"), dollars(median) if isinstance(median, float) else _("none"))
    versions = result.output[version].drop_nulls().unique(maintain_order=True).to_list()
    if len(versions) > 1:
        st.warning(
            _(
                "The model changed while the file was priced: the rows have prices of versions {versions}. For prices "
                "of one version, upload the file again.",
                versions=", ".join(versions),
            ),
            icon=":material/warning:",
        )
    _show_downloads(result)
    if result.errors.height:
        _show_errors(result.errors)
    st.markdown(_("**The first {count} rows**", count=min(len(prices), SHOWN_ROWS)))
    in_dollars = {name: st.column_config.NumberColumn(format="dollar") for name in (price, low, high)}
    order = [*result.added, *(name for name in result.output.columns if name not in result.added)]
    st.dataframe(result.output.head(SHOWN_ROWS).select(order), hide_index=True, column_config=in_dollars)


def _show_downloads(result: FileResult) -> None:
    """Show the buttons. A file is written when its button is pressed, so that the session does not hold all of them."""
    stem = PurePath(result.name).stem
    formats = (("CSV", to_csv, "text/csv"), ("Parquet", to_parquet, "application/vnd.apache.parquet"))
    for column, (name, write, kind) in zip(st.columns((1, 1, 2)), formats, strict=False):
        column.download_button(
            _("Download {format}", format=name),
            partial(write, result.output),
            f"{stem}-prices.{name.lower()}",
            kind,
            on_click="ignore",
            icon=":material/download:",
            width="stretch",
        )


def _show_errors(errors: pl.DataFrame) -> None:
    st.markdown(_("**Errors**"))
    st.caption(
        _(
            "These rows have no price. In a CSV or Excel file, the header is row 1. Parquet has no header, so row 1 is "
            "the first listing."
        )
    )
    titles = {"Row": _("Row"), "Field": _("Field"), "Value": _("Value"), "Rule": _("Rule")}
    st.dataframe(errors.head(SHOWN_ERRORS), hide_index=True, column_config=titles)
    if errors.height > SHOWN_ERRORS:
        st.caption(
            _(
                "The table has the first {shown} of {all} errors. The downloads have all of them, in the column with "
                "errors.",
                shown=SHOWN_ERRORS,
                all=errors.height,
            )
        )


def _listed(names: Sequence[str]) -> str:
    """Names for Markdown; after the first ones only their number."""
    listed = ", ".join(escaped(name) or _("(no name)") for name in names[:SHOWN_NAMES])
    rest = len(names) - SHOWN_NAMES
    return _("{names} and {count} more", names=listed, count=rest) if rest > 0 else listed
