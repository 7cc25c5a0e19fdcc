"""Two ways to the same images: buildah on our own base where there is no container registry, Docker on public ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from ci import debian
from ci.console import Failure, phase, run
from ci.gocache import go_build_cache
from ci.images import archive, base
from ci.images.catalog import Image
from ci.paths import cache_dir

PACKAGES = ("buildah", "mmdebstrap", "skopeo", "debian-archive-keyring")
_CA_IN_BUILD = "/run/build-ca.crt"


class Builder(Protocol):
    """Builds Dockerfiles."""

    def prepare(self) -> str:
        """Make ready what every build needs; returns what identifies the base."""

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build one Dockerfile under a local tag."""

    def exists(self, tag: str) -> bool:
        """True if there is such a local tag."""

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """Write an image as an archive for the cluster; returns its digest, or "" if only its tag identifies it."""

    def arguments(self, image: Image) -> dict[str, str]:
        """Build arguments that differ between the two ways."""

    def reference(self, tag: str) -> str:
        """How a Dockerfile names a local image."""

    def keep_only(self, tags: Iterable[str]) -> None:
        """Remove local images but the bases and these, where the storage is our own."""


def npm_configuration() -> list[str]:
    """Words that lend a build npm's configuration of this machine, which may name a registry and hold its password."""
    file = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    return ["--secret", f"id=npmrc,src={file}"] if file.is_file() else []


def log_file(name: str) -> Path:
    """Where the output of a build goes."""
    return cache_dir() / "log" / f"image-{name.replace('/', '-').replace(':', '-')}.log"


class Buildah:
    """Rootful buildah with storage of its own, in the cache folder."""

    def __init__(self) -> None:
        self._folder = cache_dir() / "containers"
        self._ids: dict[str, str] = {}

    def _buildah(
        self, *words: str | Path, log: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        scratch = self._folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "TMPDIR": str(scratch),
            "CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf")),
            "BUILDAH_ISOLATION": "chroot",
        }
        where: list[str | Path] = ["--root", self._folder / "storage", "--runroot", "/run/house-images"]
        where += ["--storage-driver", "overlay"]
        return run(["buildah", *where, *words], env=environment, log=log, check=check)

    def prepare(self) -> str:
        """Debian's packages for building, our base, and the image that builds."""
        if os.geteuid() != 0:
            raise Failure(
                "without a Docker engine, images are built with buildah as root: run as root, or start Docker"
            )
        debian.install(PACKAGES)
        own = f"house-platform/base:{base.RECIPE[:12]}"
        builder = f"house-platform/build:{base.RECIPE[:12]}"
        if not self.exists(own):
            with phase("make the Debian base", then="the image that builds"):
                context = archive.scratch(self._folder / "tmp")
                base.make_root(context / "root.tar", log_file("base"))
                (context / "Dockerfile").write_text(base.BASE_DOCKERFILE)
                self.build(own, context / "Dockerfile", context, {}, {})
                archive.discard(context)
        if not self.exists(builder):
            with phase("make the image that builds", then="the images"):
                context = archive.scratch(self._folder / "tmp")
                (context / "Dockerfile").write_text(base.build_dockerfile())
                self.build(builder, context / "Dockerfile", context, {"BASE": f"localhost/{own}"}, {})
                archive.discard(context)
        self._base, self._builder = f"localhost/{own}", f"localhost/{builder}"
        return self._buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", self._base).stdout.strip()

    def arguments(self, image: Image) -> dict[str, str]:
        """Our own bases; Go's caches are this machine's."""
        known = {"BASE": self._base, "BUILD_BASE": self._builder, "NODE_IMAGE": self._builder}
        return known | ({"GO_IMAGE": self._builder, "GOCACHE": "/root/.cache/go-build"} if image.go else {})

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build with the CA and Go's toolchain and caches mounted, so that none of them reaches a layer."""
        words: list[str | Path] = [
            "bud",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--layers=false",
            "--pull-never",
        ]
        words += ["--timestamp", str(base.EPOCH), "-f", dockerfile, "-t", tag, *npm_configuration()]
        authority = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
        words += ["--volume", f"{authority}:{_CA_IN_BUILD}:ro"]
        if "GO_IMAGE" in arguments:
            go = {name: run(["go", "env", name]).stdout.strip() for name in ("GOROOT", "GOMODCACHE")}
            go_build_cache().mkdir(parents=True, exist_ok=True)
            words += ["--volume", f"{go['GOROOT']}:/usr/local/go:ro", "--volume", f"{go['GOMODCACHE']}:/go/pkg/mod"]
            words += ["--volume", f"{go_build_cache()}:/root/.cache/go-build"]
        for name, value in {**arguments, "SSL_CERT_FILE": _CA_IN_BUILD}.items():
            words += ["--build-arg", f"{name}={value}"]
        for name, value in labels.items():
            words += ["--label", f"{name}={value}"]
        self._buildah(*words, context, log=log_file(tag))

    def exists(self, tag: str) -> bool:
        """True if the storage holds it."""
        return self._buildah("inspect", "--type", "image", f"localhost/{tag}", check=False).returncode == 0

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """As an OCI archive with both names."""
        layout = archive.scratch(target.parent)
        try:
            self._buildah("push", "--quiet", f"localhost/{tag}", f"oci:{layout}:{version}")
            return archive.pack(layout, target, repository, version)
        finally:
            archive.discard(layout)

    def reference(self, tag: str) -> str:
        """How a Dockerfile names a local image."""
        return f"localhost/{tag}"

    def keep_only(self, tags: Iterable[str]) -> None:
        """The storage is in the cache folder, which would grow with every change."""
        kept = {self._base, self._builder, *(self.reference(tag) for tag in tags)}
        listed = self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split()
        old = [name for name in listed if name.startswith("localhost/house-platform/") and name not in kept]
        if old:
            self._buildah("rmi", "--force", *old)


class Docker:
    """BuildKit on public bases. Its images are known by their tag, which is the hash of their inputs."""

    def prepare(self) -> str:
        """Nothing to make; the bases are those that the Dockerfiles name."""
        return "docker"

    def arguments(self, image: Image) -> dict[str, str]:  # noqa: ARG002 - as Builder
        """The Dockerfiles' own defaults."""
        return {}

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build with BuildKit."""
        words: list[str | Path] = ["docker", "buildx", "build", "--load", "-f", dockerfile, "-t", tag]
        words += npm_configuration()
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for name, value in labels.items():
            words += ["--label", f"{name}={value}"]
        run([*words, context], log=log_file(tag), env={**os.environ, "SOURCE_DATE_EPOCH": str(base.EPOCH)})

    def exists(self, tag: str) -> bool:
        """True if the engine holds it."""
        return run(["docker", "image", "inspect", tag], check=False).returncode == 0

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """As Docker saves it."""
        run(["docker", "tag", tag, f"{repository}:{version}"])
        draft = target.with_suffix(".part")
        run(["docker", "save", "-o", draft, f"{repository}:{version}"])
        draft.replace(target)
        return ""

    def reference(self, tag: str) -> str:
        """How a Dockerfile names a local image."""
        return tag

    def keep_only(self, tags: Iterable[str]) -> None:
        """The engine is not ours to tidy: `docker image prune` does."""


def choose() -> Buildah | Docker:
    """Docker where an engine answers (its program alone means nothing), else buildah."""
    if shutil.which("docker") and run(["docker", "info"], check=False).returncode == 0:
        return Docker()
    return Buildah()
