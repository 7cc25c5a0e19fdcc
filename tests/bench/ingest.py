"""Measures the ingest of a body of the size of batch 5, compared with a bare `orjson.loads` of the same bytes.

Both run alternately, each in its own process. The result is the ratio of the medians. The memory is the peak of a
process with all imports of stage fetch. The bench fails if a limit is exceeded.
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
MAX_RATIO, MAX_MIB = 2.0, 400.0

BARE = """
import orjson
text = open(sys.argv[1], 'rb').read()
began = time.perf_counter()
orjson.loads(text)
result['seconds'] = time.perf_counter() - began
"""
INGEST = """
from core.stores.objects import FolderStore
from core.stores import layout
from pipeline import rows
from pipeline.ingest import body
from pipeline.stages import fetch
from pathlib import Path
began = time.perf_counter()
with open(sys.argv[1], 'rb') as file:
    content = body.read(file)
rows.write(FolderStore(Path(sys.argv[2])), layout.raw_key(content.batch_number, content.sha256), content.raw)
result['seconds'] = time.perf_counter() - began
result['rows'] = content.raw.height
"""
# VmHWM, because the peak of getrusage starts with that of the parent process
FRAME = """
import json, re, sys, time
result = {{}}
{}
result['mib'] = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024
print(json.dumps(result))
"""


def measure(program: str, *arguments: str) -> dict[str, float]:
    """Run a program in its own process; returns its seconds, and its peak memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", FRAME.format(program), *arguments], capture_output=True, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> int:
    """Measure and print; returns 1 if a limit is exceeded."""
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
    print(f"read, hash, store as Parquet {seconds:5.2f} s = {seconds / floor:.2f} times (at most {MAX_RATIO:g})")
    print(f"peak memory of the process   {peak:5.0f} MiB (at most {MAX_MIB:.0f})")
    return int(seconds > MAX_RATIO * floor or peak > MAX_MIB)


if __name__ == "__main__":
    sys.exit(main())
