"""Two builders for the same images: buildah on our own base without a registry, and Docker on public bases."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from ci.cluster.docker import machine_answers
from ci.common import debian
from ci.common.console import Failure, phase, run
from ci.common.gocache import go_build_cache
from ci.common.paths import cache_dir
from ci.images import archive, base
from ci.images.catalog import Image

PACKAGES = ("buildah", "mmdebstrap", "skopeo", "debian-archive-keyring")
_CA_IN_BUILD = "/run/build-ca.crt"


class Builder(Protocol):
    """Builds Dockerfiles."""

    def prepare(self) -> str:
        """Prepare all builds; returns the identity of the base."""

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build one Dockerfile under a local tag."""

    def exists(self, tag: str) -> bool:
        """Whether the local tag exists."""

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """Write an image as an archive for the cluster; returns its digest, or "" if only its tag identifies it."""

    def arguments(self, image: Image) -> dict[str, str]:
        """Build arguments of the image and of the builder."""

    def reference(self, tag: str) -> str:
        """Reference of a local image in a Dockerfile."""

    def keep_only(self, tags: Iterable[str]) -> None:
        """Remove all other local images except bases, if the storage is our own."""


def npm_configuration() -> list[str]:
    """Options that mount this machine's npm configuration. It may have a registry and its password."""
    file = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    return ["--secret", f"id=npmrc,src={file}"] if file.is_file() else []


def log_file(name: str) -> Path:
    """Log file of a build."""
    return cache_dir() / "log" / f"image-{name.replace('/', '-').replace(':', '-')}.log"


class BuildahBuilder:
    """Rootful buildah with its own storage in the cache folder."""

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
        """Install Debian packages for building, and make our base and the build image."""
        if os.geteuid() != 0:
            raise Failure(
                "without a Docker engine, images are built with buildah as root: run as root, or start Docker"
            )
        debian.install(PACKAGES)
        own = f"house-platform/base:{base.RECIPE[:12]}"
        builder = f"house-platform/build:{base.RECIPE[:12]}"
        if not self.exists(own):
            with phase("make the Debian base", then="the build image"):
                context = archive.scratch(self._folder / "tmp")
                base.make_root(context / "root.tar", log_file("base"))
                (context / "Dockerfile").write_text(base.BASE_DOCKERFILE)
                self.build(own, context / "Dockerfile", context, {}, {})
                archive.discard(context)
        if not self.exists(builder):
            with phase("make the build image", then="the images"):
                context = archive.scratch(self._folder / "tmp")
                (context / "Dockerfile").write_text(base.build_dockerfile())
                shutil.copyfile(base.UV_LOCK, context / base.UV_LOCK.name)
                self.build(builder, context / "Dockerfile", context, {"BASE": f"localhost/{own}"}, {})
                archive.discard(context)
        self._base, self._builder = f"localhost/{own}", f"localhost/{builder}"
        return self._buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", self._base).stdout.strip()

    def arguments(self, image: Image) -> dict[str, str]:
        """Our own bases and the arguments of the image."""
        values = {"BASE": self._base, "BUILD_BASE": self._builder, "NODE_IMAGE": self._builder} | dict(image.arguments)
        return values | ({"GO_IMAGE": self._builder, "GOCACHE": "/root/.cache/go-build"} if image.go else {})

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build with the CA, Go's toolchain and caches mounted, so that they are not in a layer."""
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
        """Whether the storage has it."""
        return self._buildah("inspect", "--type", "image", f"localhost/{tag}", check=False).returncode == 0

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """Write an OCI archive with both names."""
        layout = archive.scratch(target.parent)
        try:
            # zstd: a seventh smaller than gzip here, and nodes unpack it five times as fast
            words = ["push", "--quiet", "--compression-format", "zstd"]
            self._buildah(*words, f"localhost/{tag}", f"oci:{layout}:{version}")
            return archive.pack(layout, target, repository, version)
        finally:
            archive.discard(layout)

    def reference(self, tag: str) -> str:
        """Reference of a local image in a Dockerfile."""
        return f"localhost/{tag}"

    def keep_only(self, tags: Iterable[str]) -> None:
        """Remove other images, because the cache folder would grow with every change."""
        # buildah 1.28 leaves the container of a stage mounted if another stage names that stage with an argument
        self._buildah("rm", "--all")
        kept = {self._base, self._builder, *(self.reference(tag) for tag in tags)}
        listed = self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split()
        old = [name for name in listed if name.startswith("localhost/house-platform/") and name not in kept]
        if old:
            self._buildah("rmi", "--force", *old)


class DockerBuilder:
    """BuildKit on public bases. Its images are identified by their tag, the hash of their inputs."""

    def prepare(self) -> str:
        """Do nothing: Dockerfiles use public bases."""
        return "docker"

    def arguments(self, image: Image) -> dict[str, str]:
        """Arguments of the image; Dockerfiles have defaults for the others."""
        return dict(image.arguments)

    def build(
        self, tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build with the BuildKit that every engine has since Docker 20.10, so that the engine holds the image."""
        words: list[str | Path] = ["docker", "build", "-f", dockerfile, "-t", tag]
        words += npm_configuration()
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for name, value in labels.items():
            words += ["--label", f"{name}={value}"]
        builder = {"DOCKER_BUILDKIT": "1", "BUILDX_BUILDER": "default", "SOURCE_DATE_EPOCH": str(base.EPOCH)}
        run([*words, context], log=log_file(tag), env={**os.environ, **builder})

    def exists(self, tag: str) -> bool:
        """Whether the engine has it."""
        return run(["docker", "image", "inspect", tag], check=False).returncode == 0

    def export(self, tag: str, target: Path, repository: str, version: str) -> str:
        """Write the archive with `docker save`."""
        run(["docker", "tag", tag, f"{repository}:{version}"])
        draft = target.with_suffix(".part")
        run(["docker", "save", "-o", draft, f"{repository}:{version}"])
        draft.replace(target)
        return ""

    def reference(self, tag: str) -> str:
        """Reference of a local image in a Dockerfile."""
        return tag

    def keep_only(self, tags: Iterable[str]) -> None:
        """Do nothing: the engine belongs to the user, who can run `docker image prune`."""


def choose() -> BuildahBuilder | DockerBuilder:
    """Docker if an engine answers, else buildah.

    The engine that `make cluster` starts without a registry does not count: it cannot pull a base.
    """
    return DockerBuilder() if machine_answers() else BuildahBuilder()
