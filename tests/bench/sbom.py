"""Compares our SBOMs with those of syft: components that only one of them lists, seconds, and peak memory.

    GOBIN=/tmp/syft go install github.com/anchore/syft/cmd/syft@v1.57.0
    python -m tests.bench.sbom --syft /tmp/syft/syft IMAGE.tar ...      # archives that `make images` built

A component is kind, name and version. Names are compared as package URLs write them. Source packages of Debian, which
our SBOMs list beside the binary ones, are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from ci.common.console import main

Component = tuple[str, str, str]  # kind, name, version

OURS = """
import json, sys
from pathlib import Path
from ci.images import sbom
json.dump(sbom.document(Path(sys.argv[1]), "image", "0", "sha256:" + "0" * 64), sys.stdout)
"""


def components(document: Path) -> tuple[set[Component], set[Component]]:
    """Components of a CycloneDX document that have a package URL: packages, and source packages of Debian."""
    packages, sources = set(), set()
    for one in json.loads(document.read_text()).get("components", []):
        if url := one.get("purl", ""):
            path, _, qualifiers = url.removeprefix("pkg:").partition("?")
            name, _, version = unquote(path.partition("#")[0]).rpartition("@")
            kind, _, name = name.partition("/")
            group = sources if "arch=source" in qualifiers else packages
            group.add((kind, name.lower() if kind == "pypi" else name, version))
    return packages, sources


def run(command: list[str], output: Path) -> tuple[float, float]:
    """Run a program that prints a document; returns its seconds and its peak memory in MiB."""
    began = time.monotonic()
    with output.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"})
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return time.monotonic() - began, _mib(usage)


def _mib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def _counts(names: set[Component]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kind for kind, *_ in names).items())) or "none"


def compare(image: Path, syft: Path, shown: int) -> None:
    """Print the comparison for one image."""
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "syft.json", Path(folder) / "ours.json"
        syft_cost = run([str(syft), "scan", "--quiet", "--output", "cyclonedx-json", f"oci-archive:{image}"], theirs)
        our_cost = run([sys.executable, "-c", OURS, str(image)], ours)
        syft_packages, _ = components(theirs)
        our_packages, our_sources = components(ours)
        sizes = theirs.stat().st_size, ours.stat().st_size
    print(f"\n{image.name}, {image.stat().st_size / 2**20:.0f} MiB")
    for title, cost, packages, size in (
        ("syft", syft_cost, syft_packages, sizes[0]),
        ("ours", our_cost, our_packages, sizes[1]),
    ):
        print(f"  {title}: {cost[0]:.1f} s, {cost[1]:.0f} MiB; {size / 1024:.0f} KiB: {_counts(packages)}")
    print(f"  source packages of Debian in ours: {len(our_sources)}")
    for title, names in (("syft", syft_packages - our_packages), ("ours", our_packages - syft_packages)):
        print(f"  only {title}: {_counts(names)}")
        for kind, name, version in sorted(names)[:shown]:
            print(f"    {kind}/{name} {version}")


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sbom", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+", help="archives of images")
    parser.add_argument("--syft", type=Path, required=True, help="program of syft")
    parser.add_argument(
        "--shown", type=int, default=40, help="names to print of each difference (default: %(default)s)"
    )
    options = parser.parse_args()
    for image in options.images:
        compare(image, options.syft, options.shown)


if __name__ == "__main__":
    main(_main)
