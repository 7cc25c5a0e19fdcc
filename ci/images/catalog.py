"""What images there are, and what goes into each."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ci.paths import CHECKOUT

SERVICES = CHECKOUT / "services"
VERSION = str(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"])


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile, and the paths under services/ that it copies (both relative to services/)."""

    name: str
    title: str
    dockerfile: str
    sources: tuple[str, ...]
    licenses: str = "Apache-2.0"
    source: str = "https://github.com/house-platform/house-platform"
    environment: bool = False  # code on the Python environment that services/Dockerfile makes
    go: bool = False
    debian: bool = False  # adds packages of Debian to the base

    @property
    def environment_sources(self) -> tuple[str, ...]:
        """What its Python environment is made from."""
        known = ("Dockerfile", f"{self.name}/requirements.lock", f"{self.name}/excludes.txt")
        return tuple(path for path in known if (SERVICES / path).exists())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every path that it is made from."""
        return (self.dockerfile, *self.sources, *(self.environment_sources if self.environment else ()))


def _python(name: str, title: str, *sources: str) -> Image:
    return Image(name, title, f"{name}/Dockerfile", sources, environment=True)


def _monitoring(name: str, title: str) -> Image:
    source = f"https://github.com/prometheus/{name}"
    return Image(name, title, f"monitoring/{name}.Dockerfile", (f"monitoring/{name}",), source=source, go=True)


IMAGES = {
    image.name: image
    for image in (
        _python("pipeline", "Stages of the learning path", "core/src/core", "pipeline/src/pipeline"),
        _python("predictor", "Prices over HTTP", "core/src/core", "predictor/src/predictor"),
        _python("ui", "Pages for prices and history", "ui/src/ui"),
        _python("datasource", "Stand-in for the data API", "datasource/src/datasource"),
        _python(
            "airflow",
            "Airflow with the DAGs",
            "airflow/dags",
            "airflow/config",
            "pipeline/src/pipeline/__init__.py",
        ),
        _python("mlflow", "MLflow's tracking server and registry"),
        Image(
            "postgres",
            "PostgreSQL and its exporter",
            "postgres/Dockerfile",
            ("postgres/entrypoint.sh",),
            licenses="PostgreSQL AND Apache-2.0",
            source="https://www.postgresql.org/ftp/source/",
            debian=True,
        ),
        Image(
            "minio",
            "MinIO, unmodified",
            "minio/Dockerfile",
            ("minio/go",),
            licenses="AGPL-3.0-only",
            source="https://github.com/minio/minio",
            go=True,
        ),
        _monitoring("alertmanager", "Alertmanager"),
        _monitoring("prometheus", "Prometheus with its pages"),
    )
}


def files(sources: tuple[str, ...], root: Path = SERVICES) -> list[Path]:
    """The files behind paths under services/, sorted; caches of Python are none."""
    found: list[Path] = []
    for source in sources:
        path = root / source
        found += [path] if path.is_file() else [file for file in path.rglob("*") if _belongs(file)]
    return sorted(found)


def _belongs(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"


def fingerprint(sources: tuple[str, ...], *more: str, root: Path = SERVICES) -> str:
    """Hash of files (names, modes, contents) and of whatever else decides a build."""
    digest = hashlib.sha256()
    for file in files(sources, root):
        mode = "x" if file.stat().st_mode & 0o100 else "-"
        digest.update(f"{file.relative_to(root)}\0{mode}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for text in more:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()
