"""Packages, renders and pushes the Helm charts of this repository."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from ci.common.console import main, run, say
from ci.common.kube import helm
from ci.common.paths import CHECKOUT

CHARTS = CHECKOUT / "charts"


def names() -> list[str]:
    """Names of all charts in the order of their dependencies: lib, components, umbrella."""
    charts = sorted(path.parent.name for path in CHARTS.glob("*/Chart.yaml"))
    return sorted(charts, key=lambda name: {"lib": 0, "platform": 2}.get(name, 1))


def dependencies() -> int:
    """Package each chart's dependencies into its charts/ folder; returns the number of charts that changed.

    Charts are done in the order of `names`: `helm dependency build` is not recursive, and the sub-charts of the
    umbrella need their own `lib`.
    """
    with _alone():
        return _package_dependencies()


@contextmanager
def _alone() -> Iterator[None]:
    """Lock: programs that package dependencies at the same time wait for each other."""
    folder = os.open(CHARTS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _package_dependencies() -> int:
    done = 0
    for name in names():
        chart = CHARTS / name
        wanted = [item["name"] for item in yaml.safe_load((chart / "Chart.yaml").read_text()).get("dependencies", [])]
        if not wanted:
            continue
        state = _state([CHARTS / needed for needed in wanted] + [chart / "Chart.yaml"])
        note = chart / "charts" / ".state"
        if note.exists() and note.read_text() == state:
            continue
        shutil.rmtree(chart / "charts", ignore_errors=True)
        run([helm(), "dependency", "update", "--skip-refresh", str(chart)])
        (chart / "Chart.lock").unlink(missing_ok=True)  # redundant: all versions in Chart.yaml are exact
        note.write_text(state)
        done += 1
    return done


def _state(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if path.is_file() else _files(path):
            digest.update(f"{file.relative_to(CHARTS)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _files(chart: Path) -> list[Path]:
    return sorted(file for file in chart.rglob("*") if file.is_file() and file.relative_to(chart).parts[0] != "charts")


def sources() -> list[Path]:
    """Every file of every chart, without packaged dependencies."""
    return [file for name in names() for file in _files(CHARTS / name)]


def template(chart: str, *arguments: str, release: str = "mlops", namespace: str = "mlops") -> str:
    """Render a chart and return the manifests.

    Raises:
        Failure: the chart refuses its values. The message is helm's.
    """
    return run([helm(), "template", release, str(CHARTS / chart), "-n", namespace, *arguments]).stdout


def package(target: Path, registry: str = "") -> list[Path]:
    """Package every chart but lib with its dependencies, and push them as OCI artifacts if `registry` is set.

    Raises:
        Failure: helm failed, for example without a login (`helm registry login`).
    """
    dependencies()
    target.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names():
        if name != "lib":
            chart = yaml.safe_load((CHARTS / name / "Chart.yaml").read_text())
            run([helm(), "package", CHARTS / name, "--destination", target])
            made.append(target / f"{name}-{chart['version']}.tgz")
    for file in made if registry else []:
        run([helm(), "push", file, f"oci://{registry}"])
    return made


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.deploy.charts", description=__doc__)
    parser.add_argument(
        "action",
        choices=["deps", "package"],
        help="deps: package the dependencies of all charts; package: all charts, into build/charts",
    )
    parser.add_argument(
        "--registry", default="", help="package: push them to this registry, example: registry.example/house/charts"
    )
    options = parser.parse_args()
    if options.action == "package":
        made = package(CHECKOUT / "build" / "charts", options.registry)
        say(f"packaged {len(made)} charts" + (f", and pushed them to {options.registry}" if options.registry else ""))
    else:
        say(f"packaged the dependencies of {dependencies()} charts; those of the others were up to date")


if __name__ == "__main__":
    main(_main)
