"""Compares Python clients of an S3 server: time, peak memory and installed size.

Each client is installed alone, in an environment of its own, because most of them are not in the locks:

    for name in minio obstore s3fs boto3; do
      python3 -m venv --without-pip /tmp/clients/$name && pip --python /tmp/clients/$name/bin/python install $name
    done
    python -m tests.bench.object_store --environments /tmp/clients

The server is a MinIO process on this machine. Each pair of client and size runs in a process of its own, in rounds that
take turns, so that peak memory has the imports of one client only. An upload sends `bytes` and a download returns
`bytes`, with the defaults of the client. Times are medians over all rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from minio import Minio

from ci.common.console import main
from ci.local.processes import LocalPlatform, MinioServer

SIZES = {"1 KiB": (1024, 200), "1 MiB": (2**20, 40), "64 MiB": (2**26, 5)}  # bytes, and repetitions in a round
BUCKET = "bench"

# Each defines put(key, content) and get(key). The address is split as the clients want it.
CLIENTS = {
    "minio": """
import io
from minio import Minio
client = Minio(endpoint.split("//")[1], access_key=access, secret_key=secret, secure=False, region="us-east-1")
def put(key, content):
    client.put_object(bucket, key, io.BytesIO(content), len(content))
def get(key):
    response = client.get_object(bucket, key)
    try:
        return response.read()
    finally:
        response.close()
        response.release_conn()
""",
    "obstore": """
import obstore
from obstore.store import S3Store
store = S3Store(
    bucket, endpoint=endpoint, access_key_id=access, secret_access_key=secret, region="us-east-1",
    virtual_hosted_style_request=False, client_options={"allow_http": True},
)
def put(key, content):
    obstore.put(store, key, content)
def get(key):
    return obstore.get(store, key).bytes().to_bytes()
""",
    "s3fs": """
import s3fs
files = s3fs.S3FileSystem(
    key=access, secret=secret, client_kwargs={"endpoint_url": endpoint, "region_name": "us-east-1"},
    use_listings_cache=False,
)
def put(key, content):
    files.pipe_file(f"{bucket}/{key}", content)
def get(key):
    return files.cat_file(f"{bucket}/{key}")
""",
    "boto3": """
import boto3
client = boto3.client(
    "s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1"
)
def put(key, content):
    client.put_object(Bucket=bucket, Key=key, Body=content)
def get(key):
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()
""",
}
# VmHWM, because the peak of getrusage starts with that of the parent process
FRAME = """
import json, os, re, sys, time
endpoint, access, secret, bucket, size, repeat = sys.argv[1:]
began = time.perf_counter()
{client}
result = {{"start": time.perf_counter() - began, "put": [], "get": []}}
content = os.urandom(int(size))
for number in range(int(repeat) + 1):
    began = time.perf_counter()
    put("object", content)
    result["put"].append(time.perf_counter() - began)
    began = time.perf_counter()
    same = get("object")
    result["get"].append(time.perf_counter() - began)
    assert same == content
    del same
result["put"], result["get"] = result["put"][1:], result["get"][1:]  # the first one opens the connection
result["mib"] = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps(result))
"""
BARE = "def put(key, content):\n    pass\ndef get(key):\n    return bytes(memoryview(content))\n"


def measure(python: Path, client: str, server: MinioServer, size: int, repeat: int) -> dict[str, float]:
    """Medians of one process: seconds to start the client, to upload and to download, and its peak memory in MiB."""
    arguments = [server.endpoint, server.access_key, server.secret_key, BUCKET, str(size), str(repeat)]
    done = subprocess.run(
        [str(python), "-c", FRAME.format(client=client), *arguments], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    return {name: statistics.median(value) if isinstance(value, list) else value for name, value in result.items()}


def installed_mib(environment: Path) -> float:
    """Size of the packages in an environment, as installed, without bytecode."""
    packages = next(environment.glob("lib/python3*/site-packages"))
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc") / 2**20


def versions(python: Path, client: str) -> str:
    """Version of a client."""
    program = f"from importlib.metadata import version; print(version({client!r}))"
    return subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def compare(environments: Path, rounds: int) -> dict[str, dict[str, object]]:
    """Figures of each client."""
    pythons = {name: environments / name / "bin" / "python" for name in CLIENTS}
    pythons = {name: python for name, python in pythons.items() if python.exists()}
    programs = {"bare": BARE} | {name: CLIENTS[name] for name in pythons}
    samples: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, LocalPlatform(Path(folder)) as local:
        server = local.start_minio()
        address = server.endpoint.removeprefix("http://")
        Minio(address, server.access_key, server.secret_key, secure=False).make_bucket(BUCKET)
        first = next(iter(pythons.values()))
        for _ in range(rounds):
            for size, (length, repeat) in SIZES.items():
                for name, program in programs.items():
                    python = pythons.get(name, first)
                    samples[name, size].append(measure(python, program, server, length, repeat))
    results: dict[str, dict[str, object]] = {}
    for name in programs:
        installed = (
            {"version": versions(pythons[name], name), "mib": installed_mib(environments / name)}
            if name != "bare"
            else {}
        )
        sizes = {
            size: {
                figure: statistics.median(one[figure] for one in samples[name, size])
                for figure in samples[name, size][0]
            }
            for size in SIZES
        }
        results[name] = {**installed, **sizes}
    return results


def table(results: dict[str, dict[str, object]]) -> str:
    """The figures as a table of Markdown."""
    lines = [
        "| client | installed | start | upload, download of "
        + " | of ".join(SIZES)
        + " | peak memory: "
        + ", ".join(SIZES)
        + " |"
    ]
    lines.append("|---|---|---|" + "---|" * len(SIZES) + "---|")
    for name, result in results.items():
        sizes: list[dict[str, float]] = [result[size] for size in SIZES]  # type: ignore[misc]
        times = " | ".join(f"{one['put'] * 1000:.1f}, {one['get'] * 1000:.1f} ms" for one in sizes)
        memory = ", ".join(f"{one['mib']:.0f}" for one in sizes)
        installed = f"{result['mib']:.1f} MiB" if "mib" in result else ""
        title = f"`{name}` {result.get('version', '')}".strip()
        lines.append(f"| {title} | {installed} | {sizes[0]['start']:.2f} s | {times} | {memory} MiB |")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.object_store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--environments", type=Path, required=True, help="folder with an environment named by each client"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    results = compare(options.environments, options.rounds)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(_main)
