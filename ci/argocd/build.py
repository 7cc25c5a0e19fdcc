"""The image of Argo CD: compiled from its Go module, as everything on the one-node cluster is; kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

from ci import cluster
from ci.cluster import build as programs
from ci.cluster import settings
from ci.cluster.build import Program
from ci.console import phase, run, say
from ci.gocache import trim_go_cache
from ci.images import archive, builders
from ci.images.catalog import Image
from ci.paths import cache_dir

HERE = Path(__file__).parent
MODULE = HERE / "go"
DOCKERFILE = HERE / "Dockerfile"
NAME = "localhost/house-platform/argocd"
ARGOCD = "github.com/argoproj/argo-cd/v3"
HELM = "helm.sh/helm/v4"
VERIFY = "hack/git-verify-wrapper.sh"  # run for every commit; without GnuPG it finds that none is signed
VERSION = settings.module_version(ARGOCD, MODULE)
IMAGE = Image(
    "argocd", "Argo CD with Helm, Git and Redis", "Dockerfile", (), source="https://github.com/argoproj/argo-cd"
)


def all_programs() -> tuple[Program, ...]:
    """What is compiled; the first is quickest."""
    stamp = {
        "version": VERSION.removeprefix("v"),
        "gitTag": VERSION,
        "gitCommit": f"{VERSION}-module",
        "gitTreeState": "clean",
    }
    argocd_flags = " ".join(f"-X {ARGOCD}/common.{key}={value}" for key, value in stamp.items())
    helm_flags = f"-X {HELM}/internal/version.version={settings.module_version(HELM, MODULE)}"
    return (
        Program("gitserver", ".", ".", module=HERE / "gitserver"),
        Program("helm", f"{HELM}/cmd/helm", version_flags=helm_flags, module=MODULE),
        Program("argocd", f"{ARGOCD}/cmd", version_flags=argocd_flags, module=MODULE),
    )


@cache
def in_module(path: str) -> Path:
    """A file of Argo CD's module."""
    found = run(["go", "mod", "download", "-json", ARGOCD], cwd=MODULE, env=programs.environment(MODULE))
    return Path(json.loads(found.stdout)["Dir"]) / path


def official_manifests() -> Path:
    """Argo CD's own install.yaml."""
    return in_module("manifests/install.yaml")


def program(name: str) -> Path:
    """Path of a compiled program."""
    return next(one.path for one in all_programs() if one.name == name)


def build() -> Path:
    """Compile and pack what the cache lacks; returns the image's archive, beside which a note holds its name."""
    with phase("compile Argo CD", then="its image"):
        compiled = programs.compile_missing(all_programs())
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
    programs.forget(target.parent.parent, current)
    return target


def _tag(base: str) -> tuple[str, Path]:
    found = hashlib.sha256(f"{base}\0".encode() + DOCKERFILE.read_bytes())
    for one in all_programs():
        found.update(one.path.parent.name.encode())
    found.update(in_module(VERIFY).read_bytes())
    tag = f"{VERSION.removeprefix('v')}-{found.hexdigest()[:12]}"
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
            cluster.import_archive(file)
    return name
