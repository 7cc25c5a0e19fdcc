"""The sales table has every sale under its places, in one form for any order of the same sales."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from core.features.formulas import UPPER_LIMIT
from core.listing.parsing import parse_listings
from core.listing.schema import QUANTITIES
from core.model.sales import NO_ZIP, PLACES, ROW, ROWS, SalesTable, day_of, read_sales, sales_table

PLACE = {
    "state": ["Ohio", "Maine", "O'hio, Ñ", None],
    "city": ["York", "York, Ohio", None],
    "zip_code": [1, 44001, None],
}
listings = some.fixed_dictionaries(
    {name: some.sampled_from(values) for name, values in PLACE.items()}
    | {
        "price": some.integers(1_000, 10**9),
        "prev_sold_date": some.sampled_from(
            ["2021-05-01", "1799-12-31", "2020-02-30", "soon", "2019-01-01 10:00", None]
        ),
        "house_size": some.sampled_from([0, 900.5, 1_560_780, None]),
        "acre_lot": some.sampled_from([0, 0.25, 100_000, None]),
        "bed": some.sampled_from([0, 3, 444, None]),
        "bath": some.sampled_from([1, 2.5, None]),
    }
)
Sale = tuple[Any, ...]


def sale_of(listing: dict[str, Any]) -> Sale:
    """The entry of a listing in the table."""
    day = str(listing["prev_sold_date"])[:10]
    quantities = [
        None if (value := listing[name]) is None or value > UPPER_LIMIT[name] else float(np.float32(value))
        for name in QUANTITIES
    ]
    place = listing["state"] or "", listing["city"] or "", NO_ZIP if (code := listing["zip_code"]) is None else code
    return (
        *place,
        date.fromisoformat(day) if day in ("2021-05-01", "2019-01-01") else None,
        listing["price"],
        *quantities,
    )


def sales_at(table: SalesTable, positions: list[int]) -> list[Sale]:
    """The sales of a table at some rows."""
    sales = []
    for at in positions:
        (state, city), zip_code = table.place(at)
        row = {name: table.rows[name][at].item() for name in ROW.names or ()}
        quantities = [None if np.isnan(row[name]) else row[name] for name in QUANTITIES]
        sales.append((state, city, zip_code, day_of(row["sold"]), row["price"], *quantities))
    return sales


def inside(parts: list[slice]) -> list[int]:
    return [at for part in parts for at in range(part.start, part.stop)]


@settings(deadline=None, max_examples=60)
@given(some.lists(listings, max_size=25))
def test_each_place_has_exactly_its_sales(rows: list[dict[str, Any]]) -> None:
    table, expected = sales_table(parse_listings(rows)), sorted(map(sale_of, rows), key=repr)
    assert sorted(sales_at(table, list(range(len(table)))), key=repr) == expected
    for state in {sale[0] for sale in expected} | {"Utah"}:
        assert sorted(sales_at(table, inside(table.in_state(state))), key=repr) == [
            s for s in expected if s[0] == state
        ]
        for city in {sale[1] for sale in expected} | {"Paris"}:
            own = [sale for sale in expected if sale[:2] == (state, city)]
            assert sorted(sales_at(table, inside(table.in_city(state, city))), key=repr) == own
    for zip_code in (0, 1, 44001, 99_999):
        own = [sale for sale in expected if sale[2] == zip_code]
        assert sorted(sales_at(table, inside(table.in_zip(zip_code))), key=repr) == own
    days = [sale[3] for sale in expected if sale[3]]
    assert day_of(table.newest) == max(days, default=None)


@settings(deadline=None, max_examples=40)
@given(some.lists(listings, max_size=25), some.randoms())
def test_files_do_not_depend_on_the_order_of_the_sales(rows: list[dict[str, Any]], draw: Any) -> None:
    shuffled = draw.sample(rows, len(rows))
    assert sales_table(parse_listings(rows)).to_files() == sales_table(parse_listings(shuffled)).to_files()


def test_written_table_is_read_as_it_was(tmp_path: Path) -> None:
    rows = [{"state": "Ohio", "city": f"City {at % 7}", "zip_code": at % 11, "price": 1000 + at} for at in range(200)]
    for many in (rows, []):
        table = sales_table(parse_listings(many))
        files = table.to_files()
        (tmp_path / ROWS).write_bytes(files[ROWS])
        again = read_sales(tmp_path, json.loads(files[PLACES]))
        assert again.to_files() == files
        assert not again.rows.flags.writeable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("price", 0),
        ("price", 2**32 - 1),
        ("house_size", np.inf),
        ("acre_lot", -1.0),
        ("bed", 444.0),
        ("sold", -(2**30)),
    ],
)
def test_impossible_value_is_refused(tmp_path: Path, name: str, value: float) -> None:
    table = sales_table(pl.concat([parse_listings([{"state": "Ohio", "price": 200_000.0}])]))
    table.rows[name] = value
    (tmp_path / ROWS).write_bytes(table.to_files()[ROWS])
    with pytest.raises(ValueError, match="a sale has an impossible"):
        read_sales(tmp_path, json.loads(table.to_files()[PLACES]))


def test_a_row_has_twenty_bytes() -> None:
    assert ROW.itemsize == 20
