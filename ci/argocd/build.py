"""Builds the image of Argo CD from its Go module, and keeps it in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

from ci import cluster
from ci.common.console import phase, run, say
from ci.common.gocache import trim_go_cache
from ci.common.goprograms import GoProgram, compile_missing, drop_old, environment, module_version
from ci.common.paths import cache_dir
from ci.images import archive, builders
from ci.images.catalog import Image

HERE = Path(__file__).parent
MODULE = HERE / "go"
STORE = "argocd"  # in the cache
DOCKERFILE = HERE / "Dockerfile"
NAME = "localhost/house-platform/argocd"
ARGOCD = "github.com/argoproj/argo-cd/v3"
HELM = "helm.sh/helm/v4"
VERIFY = "hack/git-verify-wrapper.sh"  # runs for every commit; without GnuPG it reports unsigned commits
VERSION = module_version(ARGOCD, MODULE)
IMAGE = Image(
    "argocd", "Argo CD with Helm, Git and Redis", "Dockerfile", (), source="https://github.com/argoproj/argo-cd"
)


def all_programs() -> tuple[GoProgram, ...]:
    """Programs to compile, the quickest first."""
    stamp = {
        "version": VERSION.removeprefix("v"),
        "gitTag": VERSION,
        "gitCommit": f"{VERSION}-module",
        "gitTreeState": "clean",
    }
    argocd_flags = " ".join(f"-X {ARGOCD}/common.{key}={value}" for key, value in stamp.items())
    helm_flags = f"-X {HELM}/internal/version.version={module_version(HELM, MODULE)}"
    return (
        GoProgram("gitserver", ".", HERE / "gitserver", STORE, "."),
        GoProgram("helm", f"{HELM}/cmd/helm", MODULE, STORE, version_flags=helm_flags),
        GoProgram("argocd", f"{ARGOCD}/cmd", MODULE, STORE, version_flags=argocd_flags),
    )


@cache
def in_module(path: str) -> Path:
    """A file of Argo CD's module."""
    download = run(["go", "mod", "download", "-json", ARGOCD], cwd=MODULE, env=environment(MODULE))
    return Path(json.loads(download.stdout)["Dir"]) / path


def official_manifests() -> Path:
    """Argo CD's own install.yaml."""
    return in_module("manifests/install.yaml")


def program(name: str) -> Path:
    """Path of a compiled program."""
    return next(one.path for one in all_programs() if one.name == name)


def build() -> Path:
    """Compile and pack what is not in the cache; returns the archive. A file beside it has the image's name."""
    with phase("compile Argo CD", then="its image"):
        compiled = compile_missing(all_programs())
        say(f"compiled {compiled} programs; the rest was in the cache")
    builder = builders.choose()
    base = builder.prepare()
    tag, target = _tag(base)
    if not target.with_suffix(".json").exists():
        with phase("make Argo CD's image"):
            _make(builder, tag, target)
    if compiled:
        trim_go_cache()
    current = {one.path.parent for one in all_programs()} | {target, target.with_suffix(".json")}
    drop_old(target.parent.parent, current)
    return target


def _tag(base: str) -> tuple[str, Path]:
    inputs = hashlib.sha256(f"{base}\0".encode() + DOCKERFILE.read_bytes())
    for one in all_programs():
        inputs.update(one.path.parent.name.encode())
    inputs.update(in_module(VERIFY).read_bytes())
    tag = f"{VERSION.removeprefix('v')}-{inputs.hexdigest()[:12]}"
    return tag, cache_dir() / "argocd" / "images" / f"argocd-{tag}.tar"


def _make(builder: builders.Builder, tag: str, target: Path) -> None:
    local = f"house-platform/argocd:{tag}"
    context = archive.scratch(cache_dir() / "containers" / "tmp")
    try:
        (context / "bin").mkdir()
        for one in all_programs():
            shutil.copyfile(one.path, context / "bin" / one.name)
        shutil.copyfile(in_module(VERIFY), context / "bin" / Path(VERIFY).name)
        shutil.copyfile(DOCKERFILE, context / "Dockerfile")
        builder.build(local, context / "Dockerfile", context, builder.arguments(IMAGE), {})
    finally:
        archive.discard(context)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = builder.export(local, target, NAME, tag)
    name = f"{NAME}:{tag}" + (f"@{digest}" if digest else "")
    target.with_suffix(".json").write_text(json.dumps({"name": name}))


def load() -> str:
    """Put the image into the cluster unless it is there; returns its full name."""
    file = build()
    name = str(json.loads(file.with_suffix(".json").read_text())["name"])
    if name.partition("@")[0] not in cluster.present_images():
        with phase("load Argo CD's image into the cluster"):
            cluster.import_archives([file])
    return name
