"""The sales table of a bundle: sold listings of the training, from which the predictor chooses similar sales.

    sales.npy    one row of `ROW` per sale, 20 bytes, sorted by state, city, ZIP code, and then newest first
    sales.json   the cities, and the number of rows of each ZIP code in each city, in the order of the rows

So the sales of a city and of a state are one slice of the rows, and those of a ZIP code are a few slices. The rows are
memory-mapped: they take no memory of the process, and processes that load the same file share its pages.
"""

from __future__ import annotations

import io
import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.features.formulas import UPPER_LIMIT
from core.listing.schema import LATEST_SALE, OLDEST_SALE, QUANTITIES, RANGES

ROWS, PLACES = "sales.npy", "sales.json"
FORMAT = 1
NO_ZIP = -1
UNKNOWN_DAY = np.iinfo(np.int32).min
ROW = np.dtype(
    [
        ("price", "<u4"),  # US dollars, rounded
        ("house_size", "<f4"),  # NaN where unknown, as the next three
        ("acre_lot", "<f4"),
        ("bed", "<f2"),  # exact up to 50 in steps of 1/32
        ("bath", "<f2"),
        ("sold", "<i4"),  # days since 1970-01-01; UNKNOWN_DAY where unknown
    ]
)
_PIECE_ROWS = 50_000  # are checked at a time, so that the check needs little memory
_FIRST_DAY = date(1970, 1, 1)
_PLACE = ("state", "city", "zip_code")
City = tuple[str, str]  # state and name; empty where unknown


@dataclass(frozen=True)
class SalesTable:
    """Sales by place. Several threads can read it."""

    rows: np.ndarray  # of ROW, (rows,); may be memory-mapped
    cities: Sequence[City]  # sorted
    city: np.ndarray  # int64, (groups,): position in `cities`; a group has the sales of a ZIP code in a city
    zip_code: np.ndarray  # int64, (groups,): NO_ZIP where unknown; groups are sorted by city and ZIP code
    count: np.ndarray  # int64, (groups,): number of rows, at least one

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def newest(self) -> int:
        """The day of the newest sale; UNKNOWN_DAY without a known day."""
        return int(self.rows["sold"].max(initial=UNKNOWN_DAY))

    @cached_property
    def _ends(self) -> np.ndarray:
        """Row after each group; the first entry is 0. (groups + 1,)."""
        return np.concatenate([[0], np.cumsum(self.count)])

    @cached_property
    def _by_zip(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the groups in the order of their ZIP codes, and these ZIP codes."""
        order = np.argsort(self.zip_code, kind="stable")
        return order, self.zip_code[order]

    def in_zip(self, zip_code: int) -> list[slice]:
        """The rows of a ZIP code: one slice for each city."""
        order, codes = self._by_zip
        begin, end = np.searchsorted(codes, [zip_code, zip_code + 1])
        return [slice(int(self._ends[at]), int(self._ends[at + 1])) for at in order[begin:end]]

    def in_city(self, state: str, name: str) -> list[slice]:
        """The rows of a city: one slice, or none."""
        return self._of_cities(bisect_left(self.cities, (state, name)), bisect_right(self.cities, (state, name)))

    def in_state(self, state: str) -> list[slice]:
        """The rows of a state: one slice, or none."""
        ends = (bisect(self.cities, state, key=itemgetter(0)) for bisect in (bisect_left, bisect_right))
        return self._of_cities(*ends)

    def place(self, row: int) -> tuple[City, int]:
        """City and ZIP code of a row."""
        group = int(np.searchsorted(self._ends, row, side="right")) - 1
        return self.cities[int(self.city[group])], int(self.zip_code[group])

    def _of_cities(self, first: int, last: int) -> list[slice]:
        """The rows of the cities from `first` up to `last`, without it."""
        begin, end = np.searchsorted(self.city, [first, last])
        return [slice(int(self._ends[begin]), int(self._ends[end]))] if begin < end else []

    def to_files(self) -> dict[str, bytes]:
        """The content of both files. The same sales give the same bytes."""
        content = io.BytesIO()
        np.lib.format.write_array(content, np.ascontiguousarray(self.rows), allow_pickle=False)
        groups = np.stack([self.city, self.zip_code, self.count], axis=1).tolist()
        places = {"format": FORMAT, "cities": [list(city) for city in self.cities], "groups": groups}
        return {ROWS: content.getvalue(), PLACES: json.dumps(places, separators=(",", ":")).encode()}


def sales_table(sales: pl.DataFrame) -> SalesTable:
    """A table of sales, given as a frame with the columns of `RAW_SCHEMA`; the result does not depend on their order.

    `prev_sold_date` is the day of a sale.
    """
    day = (sale_day() - _FIRST_DAY).dt.total_days()
    frame = sales.select(
        pl.col("state", "city").fill_null(""),
        pl.col("zip_code").fill_null(NO_ZIP).cast(pl.Int64),
        day.fill_null(UNKNOWN_DAY).cast(pl.Int32).alias("sold"),
        pl.col("price").round().cast(pl.UInt32),
        *(_quantity(name) for name in QUANTITIES),
    )
    order = [*_PLACE, "sold", "price", *QUANTITIES]
    frame = frame.sort(order, descending=[name == "sold" for name in order])
    rows = np.empty(frame.height, ROW)
    for name in ROW.names or ():
        rows[name] = frame[name].to_numpy()
    groups = frame.group_by(_PLACE, maintain_order=True).len("count")
    cities = groups.select("state", "city").unique(maintain_order=True).with_row_index("at")
    at = groups.join(cities, on=["state", "city"], how="left", maintain_order="left")["at"].cast(pl.Int64)
    return SalesTable(
        rows,
        list(cities.select("state", "city").iter_rows()),
        at.to_numpy(),
        groups["zip_code"].to_numpy(),
        groups["count"].cast(pl.Int64).to_numpy(),
    )


def _quantity(name: str) -> pl.Expr:
    """A column of the rows. The features count values beyond their upper limit as unknown, and so does the table."""
    valid = pl.col(name).is_between(0, UPPER_LIMIT[name])
    return pl.when(valid).then(pl.col(name)).otherwise(float("nan")).cast(pl.Float32).alias(name)


def sale_day() -> pl.Expr:
    """The day of a sale as a date; null if it is not a date in the range of `OLDEST_SALE` to `LATEST_SALE`."""
    day = pl.col("prev_sold_date").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return pl.when(day.is_between(OLDEST_SALE, LATEST_SALE)).then(day)


def read_sales(folder: Path, places: Any) -> SalesTable:
    """Map the rows of a bundle into memory. `places` is the content of `sales.json`.

    Raises:
        ValueError, KeyError, TypeError: the files have another form, or hold impossible values.
    """
    if places["format"] != FORMAT:
        raise ValueError(f"the sales have format {places['format']}, this program reads {FORMAT}")
    rows = np.lib.format.open_memmap(folder / ROWS, mode="r")
    if rows.dtype != ROW or rows.ndim != 1:
        raise ValueError("the rows of the sales have other columns")
    cities = [(str(state), str(name)) for state, name in places["cities"]]
    groups = np.array(places["groups"], dtype=np.int64).reshape(-1, 3)
    table = SalesTable(np.asarray(rows), cities, *groups.T)
    _check_places(table)
    _check_rows(table.rows)
    return table


def day_of(sold: int) -> date | None:
    """The date of a value of the column `sold`."""
    return None if sold == UNKNOWN_DAY else _FIRST_DAY + timedelta(days=int(sold))


def _check_places(table: SalesTable) -> None:
    keys = list(zip(table.city.tolist(), table.zip_code.tolist(), strict=True))
    valid = (
        all(before < after for group in (table.cities, keys) for before, after in pairwise(group)),
        {at for at, _ in keys} == set(range(len(table.cities))),
        all(NO_ZIP <= code <= RANGES["zip_code"].most for _, code in keys),
        all(1 <= count <= len(table) for count in table.count.tolist()),
        int(table.count.sum()) == len(table),
    )
    if not all(valid):
        raise ValueError("the places of the sales do not fit to their rows")


def _check_rows(rows: np.ndarray) -> None:
    limits = {"price": RANGES["price"]} | {name: (0, UPPER_LIMIT[name]) for name in QUANTITIES}
    days = [(day - _FIRST_DAY).days for day in (OLDEST_SALE, LATEST_SALE)]
    for begin in range(0, len(rows), _PIECE_ROWS):
        piece = rows[begin : begin + _PIECE_ROWS]
        for name, (least, most) in limits.items():
            values = piece[name]
            if not (np.isnan(values) | ((values >= least) & (values <= most))).all():
                raise ValueError(f"a sale has an impossible value of {name}")
        sold = piece["sold"]
        if not ((sold == UNKNOWN_DAY) | ((sold >= days[0]) & (sold <= days[1]))).all():
            raise ValueError("a sale has an impossible date")
