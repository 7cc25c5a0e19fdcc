"""Makes the file of a bundle."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ci.argocd.manifests import split_setting
from ci.bundle.argocd import Source
from ci.bundle.argocd import gather as gather_argocd
from ci.bundle.sign import signature
from ci.common.console import Failure, phase, run, say
from ci.common.git import git
from ci.common.image_reference import parse
from ci.common.kube import helm
from ci.common.paths import CHECKOUT, cache_dir
from ci.deploy import charts, release
from ci.doctor import rendered
from ci.images import archive, sbom, store, values
from ci.images.catalog import VERSION
from ci.images.values import Entry

# Programs that the installer runs with Python's standard library alone.
PROGRAMS = (
    "ci/__init__.py",
    *(f"ci/common/{name}.py" for name in ("__init__", "console", "image_reference", "kube", "paths", "restricted_pod")),
    *(f"ci/deploy/{name}.py" for name in ("__init__", "cluster_rights", "drift", "jobs", "receivers", "secrets")),
    *(f"ci/argocd/{name}.py" for name in ("__init__", "apply", "handover", "offline", "sync")),
)
NOT_BUNDLED = {"rendered.py"}  # of ci/doctor: reads charts of a checkout, with more than the standard library
CHECKSUMS = "checksums.sha256"
IMAGES = "images/images.tar"
# Images that this repository does not build, and the values of their components.
FOREIGN = {"grafana": "monitoring.grafana", "kube-state-metrics": "monitoring.kubeStateMetrics"}


@dataclass(frozen=True)
class Part:
    """An image of a bundle."""

    repository: str  # registry and name, as containerd records them
    tag: str
    digest: str
    file: Path

    @property
    def reference(self) -> str:
        """Reference in pods."""
        return f"{self.repository}:{self.tag}@{self.digest}"


def parts(registry: str, images: Mapping[str, Entry], archives: Path | None = None) -> list[Part]:
    """The images of this repository in an environment, each with its archive.

    Raises:
        Failure: an archive is missing.
    """
    return [Part(store.repository(registry, name), entry.tag, entry.digest, store.archived(name, entry, archives))
            for name, entry in sorted(images.items())]  # fmt: skip


def foreign(own: Sequence[Part], wanted: Sequence[str], folder: Path) -> list[Part]:
    """Images of the charts that this repository does not build. skopeo downloads them once.

    Raises:
        Failure: a registry did not answer.
    """
    own_references = {part.reference for part in own}
    images = []
    for reference in wanted:
        image = parse(reference)
        if f"{image.name}:{image.tag}@{image.digest}" in own_references:
            continue
        file = folder / f"{image.digest.removeprefix('sha256:')}.tar"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".part")
            words = ["skopeo", "copy", "--quiet", "--preserve-digests", "--override-os=linux", "--override-arch=amd64"]
            try:
                run([*words, f"docker://{image.name}@{image.digest}", f"oci-archive:{draft}:{image.tag}"])
            except Failure as away:
                draft.unlink(missing_ok=True)
                component = FOREIGN.get(image.name.rsplit("/", 1)[-1], "<component>")
                raise Failure(
                    f"{reference} is not built here, and could not be downloaded: {away}\n"
                    f'Leave its component out: ARGS="--set {component}.enabled=false"'
                ) from away
            draft.replace(file)
        images.append(Part(image.name, image.tag, image.digest, file))
    return images


def make(
    env: str,
    target: Path,
    settings: Sequence[str] = (),
    lock: Path | None = None,
    archives: Path | None = None,
    argocd: Source | None = None,
) -> Path:
    """Write the bundle of an environment into a folder, with its checksum beside it; returns its path.

    `settings` override values, like helm --set, now and at the install. `lock` and `archives` replace
    values/images-<env>.yaml and the cache. Without `argocd` the bundle installs with Helm only.

    Raises:
        Failure: the environment has no file of its images, an archive is missing or damaged, or the charts use an image
            that is neither built here nor downloadable.
    """
    lock = lock or values.file(env)
    registry = next(
        (one.partition("=")[2] for one in reversed(settings) if one.startswith("global.imageRegistry=")), ""
    )
    registry = registry or release.registry(env)
    if not lock.exists():
        raise Failure(
            f"{lock} is missing: `make images ENV={env}` or `python -m ci.deploy.release write --env {env}` writes it"
        )
    images = values.parse(lock.read_text(), lock.name)
    needs = rendered.requirements(env, lock, settings)
    own = parts(registry, images, archives)
    every = own + foreign(own, needs.images, cache_dir() / "foreign")
    if argocd:
        every.append(Part(store.repository(registry, "argocd"), *argocd.tag_and_digest, argocd.archive))
    name = f"house-platform-{VERSION}-{commit(CHECKOUT)}-{env}"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".bundle-") as scratch:
        folder = Path(scratch) / name
        with phase(f"gather {len(every)} images", "SBOMs"):
            gather_images(folder, every)
        with phase("SBOMs", "charts, values, programs"):
            sboms(folder, every)
        with phase("charts, values, programs", "pack"):
            gather_rest(folder, env, lock, settings, needs.save())
            if argocd:
                on_top = dict(split_setting(one) for one in settings)
                gather_argocd(folder, env, lock, on_top, every[-1].reference, argocd.official)
            write_checksums(folder)
        with phase("pack"):
            packed = pack(folder, target, needs.made)
    line = f"{archive.sha256(packed)}  {packed.name}\n"
    packed.with_name(f"{packed.name}.sha256").write_text(line)
    signature(packed).unlink(missing_ok=True)  # of an earlier bundle with this name
    return packed


def commit(checkout: Path) -> str:
    """The commit in the name of a bundle, with `-dirty` if a file differs from that commit.

    Files that name images are left out: a build writes them, and a bundle holds the one that it is made by.
    """
    head = git(checkout, "rev-parse", "--short=12", "HEAD", check=False) or "unknown"
    changed = git(checkout, "status", "--porcelain", "--", ".", ":(exclude)values/images-*.yaml", check=False)
    return head + ("-dirty" if changed else "")


def gather_images(folder: Path, every: Sequence[Part]) -> None:
    """All images as one OCI archive, and their names, one a line.

    Raises:
        Failure: an archive holds another image than the environment names.
    """
    (folder / "images").mkdir(parents=True)
    digests = archive.merge([(part.file, part.repository, part.tag) for part in every], folder / IMAGES)
    for part in every:
        if digests[part.repository] != part.digest:
            raise Failure(
                f"{part.file} holds {digests[part.repository]}, and {part.digest} is asked for: build it again"
            )
    (folder / "images" / "names").write_text("".join(f"{part.reference}\n" for part in every))


def sboms(folder: Path, every: Sequence[Part]) -> None:
    """Copy the SBOM of each image, which is beside its archive."""
    (folder / "sbom").mkdir()
    for part in every:
        name = part.repository.rpartition("/")[2]
        document, _ = sbom.describe(part.file, name, part.tag, part.digest)
        shutil.copyfile(document, folder / "sbom" / f"{name}.cdx.json")


def gather_rest(folder: Path, env: str, lock: Path, settings: Sequence[str], needs: str) -> None:
    """Copy everything except images."""
    for path in sources():
        copy = folder / path.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    here = CHECKOUT / "ci" / "bundle"
    for script in ("install.sh", "signature.sh"):
        shutil.copyfile(here / script, folder / script)
        (folder / script).chmod(0o755)
    page = (here / "README.md").read_text()  # at the top of a bundle, so links change
    (folder / "README.md").write_text(page.replace("](../../", "](").replace("](../", "](ci/"))
    for place in ("values", "bin", "charts"):
        (folder / place).mkdir(exist_ok=True)
    shutil.copyfile(CHECKOUT / "values" / f"{env}.yaml", folder / "values" / f"{env}.yaml")
    shutil.copyfile(lock, folder / "values" / f"images-{env}.yaml")
    (folder / "env").write_text(f"{env}\n")
    (folder / "settings").write_text("".join(f"{one}\n" for one in settings))
    (folder / "requirements.json").write_text(needs)
    shutil.copyfile(helm(), folder / "bin" / "helm")
    (folder / "bin" / "helm").chmod(0o755)
    charts.dependencies()
    run([helm(), "package", charts.CHARTS / "platform", "--destination", folder / "charts"])


def sources() -> list[Path]:
    """Files that are copied unchanged, with their paths."""
    paths = [CHECKOUT / name for name in (*PROGRAMS, "LICENSE", "CHANGELOG.md", "UNPROVED.md")]
    for place, pattern in (
        ("ci/doctor", "*"),
        ("ci/k3s", "*"),
        ("argocd", "*"),
        ("charts/monitoring/runbooks", "*.md"),
    ):
        paths += sorted(
            path for path in (CHECKOUT / place).glob(pattern) if path.is_file() and path.name not in NOT_BUNDLED
        )
    return paths


def write_checksums(folder: Path) -> None:
    """Write the sha256 of every file, for `sha256sum -c`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{archive.sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))


def pack(folder: Path, target: Path, made: float) -> Path:
    """Pack a folder as tar, compressed with zstd if it is installed, else with gzip."""
    suffix, command = (".tar.zst", ["zstd", "-q", "-3", "-T0"]) if shutil.which("zstd") else (".tar.gz", ["gzip", "-n"])
    packed = target / f"{folder.name}{suffix}"
    say(f"compressed by {command[0]}")

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = int(made)
        return member

    with (
        _compressor(command, packed) as sink,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as whole,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                whole.add(path, f"{folder.name}/{path.relative_to(folder)}", filter=plain)
    return packed


@contextmanager
def _compressor(command: list[str], target: Path) -> Iterator[IO[bytes]]:
    draft = target.with_name(f".{target.name}.part")
    try:
        with draft.open("wb") as sink:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink)
            assert process.stdin is not None  # noqa: S101 - stdin is PIPE
            with process.stdin:
                yield process.stdin
            if process.wait():
                raise Failure(f"{command[0]} ended with code {process.returncode}: is the disk full?")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
