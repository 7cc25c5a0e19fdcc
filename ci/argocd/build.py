"""Builds the image of Argo CD from its Go module, and keeps it in the cache."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from ci.common.console import phase, run, say
from ci.common.gocache import trim_go_cache
from ci.common.goprograms import GoProgram, compile_missing, drop_old, environment, module_version
from ci.images import addon
from ci.images.addon import AddOn
from ci.images.catalog import Image

HERE = Path(__file__).parent
MODULE = HERE / "go"
STORE = "argocd"  # in the cache
DOCKERFILE = HERE / "Dockerfile"
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


def image() -> AddOn:
    """The image with the compiled programs."""
    context = {"Dockerfile": DOCKERFILE, f"bin/{Path(VERIFY).name}": in_module(VERIFY)}
    context |= {f"bin/{one.name}": one.path for one in all_programs()}
    keys = (one.folder.name.encode() for one in all_programs())
    return AddOn(IMAGE, VERSION, context, (DOCKERFILE.read_bytes(), *keys, in_module(VERIFY).read_bytes()))


def build() -> Path:
    """Compile and pack what is not in the cache; returns the archive."""
    with phase("compile Argo CD", then="its image"):
        compiled = compile_missing(all_programs())
        say(f"compiled {compiled} programs; the rest was in the cache")
    target = addon.build(image())
    if compiled:
        trim_go_cache()
    current = {one.path.parent for one in all_programs()} | {target, addon.name_file(target)}
    drop_old(target.parent.parent, current)
    return target


def load() -> str:
    """Put the image into the cluster unless it is there; returns its full name."""
    return addon.load(build())
