"""Which images are built, by the hash of their inputs; building what is missing; the file that names them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci.console import Failure, phase
from ci.images import archive, base, packages, sbom, values
from ci.images.builders import Builder
from ci.images.catalog import IMAGES, SERVICES, VERSION, Image, files, fingerprint
from ci.images.commits import commit_of
from ci.images.values import Entry
from ci.paths import CHECKOUT, cache_dir

KEPT_VERSIONS = 2  # archives per image that stay in the cache


@dataclass(frozen=True)
class Built:
    """A built image."""

    name: str
    tag: str
    digest: str
    size: int  # bytes of the archive
    seconds: float  # of the build; 0 if it was there
    file: Path
    commit: str = ""  # see `commits`
    packages: Mapping[str, str] = field(default_factory=dict)  # Debian's, where the image adds some to our base


def folder() -> Path:
    """Where the archives lie."""
    return cache_dir() / "images"


def archived(name: str, entry: Entry, where: Path | None = None) -> Path:
    """The archive of an image that an environment names.

    Raises:
        Failure: it is not kept, or is another one; or only a tag identifies it.
    """
    if not entry.digest:
        raise Failure(
            f"image {name} is known by its tag only, as Docker builds it: build it with buildah (without Docker)"
        )
    file = (where or folder()) / f"{name}-{entry.tag}.tar"
    note = file.with_suffix(".json")
    if not file.exists() or not note.exists():
        raise Failure(f"{file} is missing: check out commit {entry.commit or '(unknown)'} and run `make images`")
    found = json.loads(note.read_text())["digest"]
    if found != entry.digest:
        raise Failure(
            f"{file} holds {found}, and the environment names {entry.digest}: remove it and run `make images`"
        )
    return file


def address(registry: str) -> str:
    """A registry and the path in front of the names, as people tell it to a program.

    Raises:
        Failure: it is none.
    """
    if "/" not in registry.rstrip("/") or "://" in registry:
        raise Failure(f"{registry!r} is not a registry with a path: write it as registry.example/house")
    return registry.rstrip("/")


def repository(registry: str, name: str) -> str:
    """An image's name without tag, as the charts spell it."""
    return f"{registry}/{name}"


def names(registry: str, image: Built) -> set[str]:
    """Names under which pods look for an image: by tag, and by digest, in which two builds of one tag may differ."""
    name = repository(registry, image.name)
    return {f"{name}:{image.tag}", *([f"{name}@{image.digest}"] if image.digest else [])}


def tags(image: Image, base_id: str) -> tuple[str, str]:
    """Tag of an image, and the local tag of the Python environment that it is made on ("" if none)."""
    ground = f"{base_id} {base.RECIPE if base_id != 'docker' else ''}"
    environment = fingerprint(image.environment_sources, ground, image.name) if image.environment else ""
    whole = fingerprint((image.dockerfile, *image.sources), ground, environment, image.title, image.licenses)
    return (
        f"{VERSION}-{whole[:12]}",
        f"house-platform/environment-{image.name}:{environment[:12]}" if environment else "",
    )


def build(builder: Builder, names: Iterable[str], registry: str) -> list[Built]:
    """Build what is missing of the named images, one at a time."""
    base_id = builder.prepare()
    built, environments = [], set()
    wanted = [IMAGES[name] for name in names]
    for number, image in enumerate(wanted, 1):
        tag, environment = tags(image, base_id)
        commit = commit_of(image)
        environments.add(environment)
        target = folder() / f"{image.name}-{tag}.tar"
        note = target.with_suffix(".json")
        began = time.monotonic()
        if not (target.exists() and note.exists() and json.loads(note.read_text())["registry"] == registry):
            then = wanted[number].name if number < len(wanted) else "the table of images"
            with phase(f"build image {image.name} ({number} of {len(wanted)})", then):
                digest = _build_one(builder, image, tag, environment, target, registry)
                debian = packages.installed(target) if image.debian and digest else {}
                note.write_text(json.dumps({"registry": registry, "digest": digest, "packages": debian}))
            _forget_old(image, target)
            seconds = time.monotonic() - began
        else:
            seconds = 0.0
        known = json.loads(note.read_text())
        if known["digest"]:  # Docker's archives are of another form
            sbom.describe(target, image.name, tag, known["digest"])
        size = target.stat().st_size
        debian = known.get("packages", {})
        built.append(Built(image.name, tag, known["digest"], size, seconds, target, commit, debian))
    if len(wanted) == len(IMAGES) and any(one.seconds for one in built):
        builder.keep_only(environments)  # the images themselves are in their archives
    return built


def _build_one(builder: Builder, image: Image, tag: str, environment: str, target: Path, registry: str) -> str:
    folder().mkdir(parents=True, exist_ok=True)
    local = f"house-platform/{image.name}:{tag}"
    arguments = builder.arguments(image)
    if not builder.exists(local):
        if environment:
            if not builder.exists(environment):
                with _context(image.environment_sources) as context:
                    builder.build(environment, context / "Dockerfile", context, arguments | {"SERVICE": image.name}, {})
            arguments = {"ENVIRONMENT": builder.reference(environment)}
        with _context((image.dockerfile, *image.sources)) as context:
            builder.build(local, context / image.dockerfile, context, arguments, _labels(image, tag))
    return builder.export(local, target, repository(registry, image.name), tag)


def _labels(image: Image, tag: str) -> dict[str, str]:
    known = {"title": image.title, "version": tag, "source": image.source, "licenses": image.licenses}
    return {f"org.opencontainers.image.{name}": value for name, value in known.items()}


class _context:
    """A build context of exactly the files that count: what is not copied in cannot reach an image."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        self._sources = sources

    def __enter__(self) -> Path:
        self._folder = archive.scratch(cache_dir() / "containers" / "tmp")
        for file in files(self._sources):
            target = self._folder / file.relative_to(SERVICES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            target.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        for directory in [self._folder, *self._folder.rglob("*")]:
            if directory.is_dir():
                directory.chmod(0o755)
        return self._folder

    def __exit__(self, *_: object) -> None:
        archive.discard(self._folder)


def _forget_old(image: Image, newest: Path) -> None:
    others = sorted(folder().glob(f"{image.name}-{VERSION}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT_VERSIONS:]:
        if old != newest:
            old.unlink()
            for suffix in (".json", ".cdx.json", ".tar.sha256"):
                old.with_suffix(suffix).unlink(missing_ok=True)


def entries(built: Iterable[Built]) -> dict[str, Entry]:
    """What the charts are told of images."""
    return {one.name: Entry(one.tag, one.digest, one.commit) for one in built}


def write_values(built: Iterable[Built], env: str, checkout: Path = CHECKOUT) -> Path:
    """Write tag, digest and commit of every image to values/images-<env>.yaml; what is as before keeps its commit."""
    return values.write(env, values.kept(values.read(env, checkout), entries(built)), checkout)
