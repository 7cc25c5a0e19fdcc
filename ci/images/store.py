"""The store of built images: finds them by the hash of their inputs, and builds missing ones."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from ci.common.console import Failure, phase, say
from ci.common.paths import CHECKOUT, cache_dir
from ci.images import archive, base, packages, sbom, values
from ci.images.builders import Builder
from ci.images.catalog import IMAGES, SERVICES, VERSION, Image, files, fingerprint
from ci.images.commits import commit_of
from ci.images.values import Entry

KEPT_VERSIONS = 2  # archives per image that stay in the cache


@dataclass(frozen=True)
class Built:
    """A built image."""

    name: str
    tag: str
    digest: str
    size: int  # bytes of the archive
    seconds: float  # of the build; 0 if it existed
    file: Path
    commit: str = ""  # see `commits`
    packages: Mapping[str, str] = field(default_factory=dict)  # Debian packages, if the image adds some to our base


def folder() -> Path:
    """Folder of the archives."""
    return cache_dir() / "images"


def archived(name: str, entry: Entry, where: Path | None = None) -> Path:
    """The archive of an image of an environment.

    Raises:
        Failure: the archive is missing, has another digest, or the image has only a tag.
    """
    if not entry.digest:
        raise Failure(
            f"image {name} has a tag but no digest, because Docker built it: build it with buildah (without Docker)"
        )
    file = (where or folder()) / f"{name}-{entry.tag}.tar"
    note = file.with_suffix(".json")
    if not file.exists() or not note.exists():
        raise Failure(f"{file} is missing: check out commit {entry.commit or '(unknown)'} and run `make images`")
    digest = json.loads(note.read_text())["digest"]
    if digest != entry.digest:
        raise Failure(
            f"{file} has digest {digest}, but the environment uses {entry.digest}: remove it and run `make images`"
        )
    return file


def address(registry: str) -> str:
    """Check the option --registry: a registry and a path.

    Raises:
        Failure: the value is not a registry with a path.
    """
    if "/" not in registry.rstrip("/") or "://" in registry:
        raise Failure(f"{registry!r} is not a registry with a path: write it as registry.example/house")
    return registry.rstrip("/")


def repository(registry: str, name: str) -> str:
    """Name of an image without its tag, as in the charts."""
    return f"{registry}/{name}"


def names(registry: str, image: Built) -> set[str]:
    """Names by which pods find an image: by tag and by digest. Two builds of a tag may have other digests."""
    name = repository(registry, image.name)
    return {f"{name}:{image.tag}", *([f"{name}@{image.digest}"] if image.digest else [])}


def tags(image: Image, base_id: str) -> tuple[str, str]:
    """Tag of an image, and the local tag of the Python environment that it is made on ("" if none)."""
    ground = f"{base_id} {base.RECIPE if base_id != 'docker' else ''}"
    environment = fingerprint(image.environment_sources, ground, image.name) if image.environment else ""
    arguments = [f"{name}={value}" for name, value in image.arguments]
    whole = fingerprint(
        (image.dockerfile, *image.sources), ground, environment, image.title, image.licenses, *arguments
    )
    return (
        f"{VERSION}-{whole[:12]}",
        f"house-platform/environment-{image.name}:{environment[:12]}" if environment else "",
    )


@dataclass(frozen=True)
class _Wanted:
    """Target of a build: tag, tag of its Python environment, and archive."""

    image: Image
    tag: str
    environment: str
    target: Path
    commit: str

    @property
    def note(self) -> Path:
        """File with metadata of the archive."""
        return self.target.with_suffix(".json")

    def there(self, registry: str) -> bool:
        """Whether it was already built for this registry."""
        return self.target.exists() and self.note.exists() and json.loads(self.note.read_text())["registry"] == registry


def build(builder: Builder, names: Iterable[str], registry: str, jobs: int = 2) -> list[Built]:
    """Build missing images; two at a time with two `jobs`.

    Raises:
        Failure: a build failed. The other image in progress is finished and kept.
    """
    base_id = builder.prepare()
    wanted = []
    for image in (IMAGES[name] for name in names):
        tag, environment = tags(image, base_id)
        wanted.append(_Wanted(image, tag, environment, folder() / f"{image.name}-{tag}.tar", commit_of(image)))
    seconds = _build_missing(builder, [one for one in wanted if not one.there(registry)], registry, jobs)
    if len(wanted) == len(IMAGES) and seconds:
        builder.keep_only({one.environment for one in wanted})  # the images themselves are in their archives
    return [_built(one, seconds.get(one.image.name, 0.0)) for one in wanted]


def _built(one: _Wanted, seconds: float) -> Built:
    metadata = json.loads(one.note.read_text())
    name, digest = one.image.name, metadata["digest"]
    if digest:  # archives of Docker have another format
        sbom.describe(one.target, name, one.tag, digest)
    size, debian = one.target.stat().st_size, metadata.get("packages", {})
    return Built(name, one.tag, digest, size, seconds, one.target, one.commit, debian)


def _build_missing(builder: Builder, missing: list[_Wanted], registry: str, jobs: int) -> dict[str, float]:
    """Build images, and return the seconds of each by its name.

    There are two lanes. Images from Go modules keep every core busy, so the first lane builds them one after another,
    and then helps with the rest. The second lane builds the others, which wait for the network most of the time.
    """
    compiled = deque(one for one in missing if one.image.go)
    others = deque(one for one in missing if not one.image.go)
    turn, numbers, failed = threading.Lock(), itertools.count(1), threading.Event()
    seconds: dict[str, float] = {}

    def following(queues: Sequence[deque[_Wanted]]) -> tuple[_Wanted, int] | None:
        """The next image of a lane, and its number in the output."""
        with turn:
            queue = next((queue for queue in queues if queue), None)
            return None if queue is None or failed.is_set() else (queue.popleft(), next(numbers))

    def work(*queues: deque[_Wanted]) -> None:
        while chosen := following(queues):
            one, number = chosen
            began = time.monotonic()
            try:
                with phase(f"build image {one.image.name} ({number} of {len(missing)})"):
                    digest = _build_one(builder, one.image, one.tag, one.environment, one.target, registry)
                    debian = packages.installed(one.target) if one.image.debian and digest else {}
                    one.note.write_text(json.dumps({"registry": registry, "digest": digest, "packages": debian}))
                    _built(one, 0.0)  # includes its SBOM, which takes time as well
            except BaseException:
                failed.set()
                raise
            _forget_old(one.image, one.target)
            seconds[one.image.name] = time.monotonic() - began

    if jobs < 2 or len(missing) < 2:
        work(compiled, others)
        return seconds
    with ThreadPoolExecutor(2) as lanes:
        both = [lanes.submit(work, compiled, others), lanes.submit(work, others)]
        try:
            done, running = wait(both, return_when=FIRST_EXCEPTION)
            if running:
                reason = next(one.exception() for one in done if one.exception())
                say(f"an image failed: {str(reason).splitlines()[0]}; ending after the other image in progress")
        except BaseException:  # an interrupt, which the builders of both lanes get as well
            failed.set()
            raise
    for one in both:
        one.result()
    return seconds


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
    values = {"title": image.title, "version": tag, "source": image.source, "licenses": image.licenses}
    return {f"org.opencontainers.image.{name}": value for name, value in values.items()}


class _context:
    """A build context with only the inputs of an image, so that other files cannot get into it."""

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
    """Entries of images in the values of charts."""
    return {one.name: Entry(one.tag, one.digest, one.commit) for one in built}


def write_values(built: Iterable[Built], env: str, checkout: Path = CHECKOUT) -> Path:
    """Write tag, digest and commit of every image to values/images-<env>.yaml; unchanged images keep their commit."""
    return values.write(env, values.kept(values.read(env, checkout), entries(built)), checkout)
