"""All images and their inputs."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.common.paths import CHECKOUT

REGISTRY = "localhost/house-platform"  # in front of the names of images that are imported into nodes, not pulled
SERVICES = CHECKOUT / "services"
VERSION = str(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"])
PROMETHEUS_UI = os.environ.get("HOUSE_PROMETHEUS_UI", "") not in ("", "0")


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile, and the paths under services/ that it copies (both relative to services/)."""

    name: str
    title: str
    dockerfile: str
    sources: tuple[str, ...]
    licenses: str = "Apache-2.0"
    source: str = "https://github.com/house-platform/house-platform"
    environment: bool = False  # has the Python environment of services/Dockerfile
    go: bool = False
    debian: bool = False  # adds packages of Debian to the base
    arguments: tuple[tuple[str, str], ...] = ()  # build arguments, name and value: part of the tag

    @property
    def environment_sources(self) -> tuple[str, ...]:
        """Inputs of its Python environment."""
        inputs = ("Dockerfile", "requirements-uv.lock", f"{self.name}/requirements.lock", f"{self.name}/excludes.txt")
        return tuple(path for path in inputs if (SERVICES / path).exists())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Paths of all its inputs."""
        return (self.dockerfile, *self.sources, *(self.environment_sources if self.environment else ()))


def _python(name: str, title: str, *sources: str) -> Image:
    return Image(name, title, f"{name}/Dockerfile", sources, environment=True)


def _monitoring(name: str, title: str, *sources: str, **more: Any) -> Image:
    source = f"https://github.com/prometheus/{name}"
    return Image(name, title, f"monitoring/{name}.Dockerfile", sources, source=source, go=True, **more)


def prometheus(ui: bool) -> Image:
    """Prometheus; with `ui` also its web pages, whose build needs Node and some minutes.

    UI is always set: without it, buildah 1.28 does not see which stage `FROM ui-${UI}` needs.
    """
    where = "monitoring/prometheus"
    title, pages, chosen = ("Prometheus with its web pages", "pages", "1") if ui else ("Prometheus", "plain", "0")
    sources = (f"{where}/go.mod", f"{where}/go.sum", f"{where}/{pages}")
    return _monitoring("prometheus", title, *sources, arguments=(("UI", chosen),))


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
        _python("mlflow", "MLflow's tracking server and registry", "mlflow/serve.py", "mlflow/login.py"),
        Image(
            "postgres",
            "PostgreSQL, its exporter and its backups",
            "postgres/Dockerfile",
            ("postgres/entrypoint.sh", "postgres/backup.sh"),
            licenses="PostgreSQL AND Apache-2.0 AND MIT",
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
        Image(
            "oauth2-proxy",
            "OAuth2 Proxy, unmodified",
            "oauth2-proxy/Dockerfile",
            ("oauth2-proxy/go",),
            licenses="MIT",
            source="https://github.com/oauth2-proxy/oauth2-proxy",
            go=True,
        ),
        _monitoring("alertmanager", "Alertmanager", "monitoring/alertmanager"),
        prometheus(PROMETHEUS_UI),
    )
}


def files(sources: tuple[str, ...], root: Path = SERVICES) -> list[Path]:
    """All files below paths under services/, sorted, without Python's caches."""
    paths: list[Path] = []
    for source in sources:
        path = root / source
        paths += [path] if path.is_file() else [file for file in path.rglob("*") if _belongs(file)]
    return sorted(paths)


def _belongs(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc"


def fingerprint(sources: tuple[str, ...], *more: str, root: Path = SERVICES) -> str:
    """Hash of files (names, modes, contents) and of other inputs of a build."""
    digest = hashlib.sha256()
    for file in files(sources, root):
        mode = "x" if file.stat().st_mode & 0o100 else "-"
        digest.update(f"{file.relative_to(root)}\0{mode}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    for text in more:
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()
