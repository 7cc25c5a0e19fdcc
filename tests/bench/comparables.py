"""Measures similar sales: `python -m tests.bench.comparables`.

Synthetic sales are spread over 51 states, 20,000 cities and 30,000 ZIP codes, larger places with more sales. For each
number of sales, the table has the size of the files, the seconds to build and to load them, the memory of a process
that has loaded them, and the latency of a search in this process. Memory is measured in a process of its own: `private`
is what the process does not share, `mapped` are pages of the file, which the kernel can drop and other processes share.

A search is measured without HTTP. `zip`: listings with ZIP code, city and state, of which most have enough sales in
their ZIP code. `state`: only the state is known, so all its sales are compared. `worst`: the same, and all sales are in
one state. `cpu` is the time of the processor, which other programs on the machine do not change much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ci.common.console import main, say
from core.listing.schema import RAW_SCHEMA
from core.model.sales import PLACES, ROWS, read_sales, sales_table
from predictor.pricing.comparables import ComparedListing, similar

SIZES = [0.1, 0.5, 1.0]
STATES, CITIES, ZIPS = 51, 20_000, 30_000
SEARCHES = 2_000
LIMIT = 10
ASKED = "queries.json"
_MIB = 1024


def sales(count: int, states: int = STATES) -> pl.DataFrame:
    """Sold listings in `RAW_SCHEMA`. The ZIP code determines the city, and the city the state."""
    draw = np.random.default_rng(7)
    zip_code = np.minimum((draw.beta(0.7, 2.0, count) * ZIPS).astype(int), ZIPS - 1)
    city = zip_code * CITIES // ZIPS
    state = city * states // CITIES
    names = [f"City {at:05d}" for at in range(CITIES)]
    size = np.exp(draw.normal(7.5, 0.5, count)).round()
    columns: dict[str, Any] = {
        "price": (size * draw.uniform(80, 300, count)).clip(1_000, 1e9).round(),
        "bed": draw.integers(1, 7, count).astype(float),
        "bath": draw.integers(1, 5, count).astype(float),
        "acre_lot": np.exp(draw.normal(-1.4, 1, count)).round(2),
        "house_size": size,
        "city": pl.Series(names)[city],
        "state": pl.Series([f"State {at:02d}" for at in range(states)])[state],
        "zip_code": zip_code.astype(float),
        "prev_sold_date": pl.Series(draw.integers(7_300, 19_000, count)).cast(pl.Int32).cast(pl.Date).cast(pl.String),
    }
    return pl.DataFrame({name: columns.get(name, [None] * count) for name in RAW_SCHEMA}, schema=RAW_SCHEMA)


def memory() -> dict[str, float]:
    """MiB of this process that are its own, and MiB of mapped files that it has read."""
    rollup = dict(line.split()[:2] for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    private = int(rollup["Private_Dirty:"])
    return {"private": private / _MIB, "mapped": int(status["RssFile"].split()[0]) / _MIB}


def listings(frame: pl.DataFrame, count: int, only_state: bool) -> list[dict[str, Any]]:
    """Fields of listings at the places of random sales."""
    rows = frame.sample(count, seed=8, with_replacement=True)
    names = ["state"] if only_state else ["state", "city", "zip_code"]
    return rows.select(*names, "bed", "bath", "acre_lot", house_size=pl.col("house_size") * 1.1).to_dicts()


def measure_one(folder: Path) -> None:
    """Load the files, search, and print the figures as JSON."""
    queries = [ComparedListing(**fields) for fields in json.loads((folder / ASKED).read_text())]
    before, began = memory(), time.perf_counter()
    table = read_sales(folder, json.loads((folder / PLACES).read_bytes()))
    loaded = time.perf_counter() - began
    similar(table, queries[0], LIMIT)
    seconds, cpu = [], []
    for listing in queries:
        began, busy = time.perf_counter(), time.thread_time()
        similar(table, listing, LIMIT)
        seconds.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - busy)
    after = memory()
    used = {name: after[name] - before[name] for name in after}
    times = [*np.quantile(seconds, [0.5, 0.95]).tolist(), *np.quantile(cpu, [0.5, 0.95]).tolist()]
    print(json.dumps(used | {"loaded": loaded, "milliseconds": [1_000 * each for each in times]}))


def one(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.comparables", "--one", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def table_of(millions: list[float], searches: int) -> None:
    """Print the table."""
    say(f"{'sales':>10} {'places':>7}{'files':>9}{'built':>8}{'loaded':>9}{'private':>10}{'mapped':>9}"
        f"{'p50':>11}{'p95':>11}{'cpu p50':>11}{'cpu p95':>11}")  # fmt: skip
    for size in millions:
        for name, states in (("zip", STATES), ("state", STATES), ("worst", 1)):
            with tempfile.TemporaryDirectory() as scratch:
                folder, frame, began = Path(scratch), sales(round(size * 1e6), states), time.perf_counter()
                for file, content in sales_table(frame).to_files().items():
                    (folder / file).write_bytes(content)
                built = time.perf_counter() - began
                files = sum((folder / file).stat().st_size for file in (ROWS, PLACES)) / 2**20
                count = searches if name == "zip" else max(1, searches // 10)
                (folder / ASKED).write_text(json.dumps(listings(frame, count, name != "zip")))
                cost = one(folder)
            say(f"{frame.height:>10,} {name:>7}{files:>5.1f} MiB{built:>6.1f} s{cost['loaded']:>7.2f} s"
                f"{cost['private']:>6.1f} MiB{cost['mapped']:>5.1f} MiB"
                + "".join(f"{each:>8.2f} ms" for each in cost["milliseconds"]))  # fmt: skip


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.comparables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="millions of sales")
    parser.add_argument(
        "--searches", type=int, default=SEARCHES, help="searches by ZIP code; a tenth by state (default: %(default)s)"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_one(options.one)
    else:
        table_of(options.sizes, options.searches)


if __name__ == "__main__":
    main(_main)
