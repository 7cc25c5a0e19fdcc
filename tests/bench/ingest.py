"""A body of the size of batch 5, on disk, becomes Parquet: against a bare `orjson.loads` of the same bytes.

Both run in processes of their own, in turns; the figure is the ratio of the medians. The memory is the peak of a
process that has imported all that the fetch stage imports. Fails if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from datasource import synthetic

BATCH, ROWS = 5, 361_457
MOST_TIMES, MOST_MIB = 2.0, 400.0

BARE = """
import orjson
text = open(sys.argv[1], 'rb').read()
began = time.perf_counter()
orjson.loads(text)
told['seconds'] = time.perf_counter() - began
"""
INGEST = """
from core.storage import FolderStore
from pipeline import body, fetch, rows
from pathlib import Path
began = time.perf_counter()
with open(sys.argv[1], 'rb') as file:
    content = body.read(file)
rows.write(FolderStore(Path(sys.argv[2])), rows.raw_key(content.batch_number, content.sha256), content.raw)
told['seconds'] = time.perf_counter() - began
told['rows'] = content.raw.height
"""
# VmHWM, because what getrusage calls the peak begins with that of the parent
FRAME = """
import json, re, sys, time
told = {{}}
{}
told['mib'] = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024
print(json.dumps(told))
"""


def measure(program: str, *arguments: str) -> dict[str, float]:
    """Run a program in a process of its own; gives its seconds and the peak of its memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", FRAME.format(program), *arguments], capture_output=True, text=True, check=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> int:
    """Measure, print, and say whether the bounds hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.json"
        listings = synthetic.generate(BATCH, seed=7)[0].to_dicts()
        path.write_bytes(orjson.dumps({"group_number": 1, "day": "Tuesday", "batch_number": BATCH, "data": listings}))
        bare, ingest = [], []
        for _ in range(rounds):
            bare.append(measure(BARE, str(path)))
            ingest.append(measure(INGEST, str(path), folder))
        size = path.stat().st_size / 1e6
        stored = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet")) / 1e6
    floor = statistics.median(one["seconds"] for one in bare)
    seconds = statistics.median(one["seconds"] for one in ingest)
    peak = max(one["mib"] for one in ingest)
    assert {one["rows"] for one in ingest} == {ROWS}
    print(f"{ROWS:,} rows, {size:.1f} MB of JSON, {stored:.1f} MB of Parquet; medians of {rounds} rounds")
    print(f"bare orjson.loads            {floor:5.2f} s")
    print(f"read, hash, store as Parquet {seconds:5.2f} s = {seconds / floor:.2f} times (at most {MOST_TIMES:g})")
    print(f"peak memory of the process   {peak:5.0f} MiB (at most {MOST_MIB:.0f})")
    return int(seconds > MOST_TIMES * floor or peak > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
