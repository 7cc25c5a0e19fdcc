"""What the one-node cluster runs: Debian's packages, programs compiled from Go modules, and its own small images.

Everything lies in the cache under a name that contains a hash of its inputs, so an interrupted build goes on with the
first program that is missing and a second one compiles nothing.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ci import debian
from ci.cluster import mkimage, settings
from ci.cluster.mkimage import Entry, Recipe
from ci.console import Failure, run, say
from ci.gocache import go_environment
from ci.paths import CHECKOUT, cache_dir

PACKAGES = (
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "gcc",
    "iproute2",
    "libc6-dev",
    "nftables",
    "openssl",
    "runc",
)
BUSYBOX = Path("/bin/busybox")
# hyperkube is run under these names
KUBERNETES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)


@dataclass(frozen=True)
class Program:
    """A program compiled from the Go module in `module`; `sources` are its own files there, if it has any."""

    name: str
    package: str
    sources: str = ""
    version_flags: str = ""
    links: tuple[str, ...] = ()
    module: Path = settings.GO_SOURCES

    @property
    def path(self) -> Path:
        """Where it lies once it is compiled."""
        return _folder(self) / self.name


def programs() -> tuple[Program, ...]:
    """The programs in the order in which they are compiled."""
    kubernetes = settings.module_version("k8s.io/kubernetes")
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    stamp = {
        "gitVersion": kubernetes,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": f"{kubernetes}-module",
        "buildDate": "2026-07-01T00:00:00Z",
    }
    kubernetes_flags = " ".join(
        f"-X {package}.{key}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for key, value in stamp.items()
    )
    metrics = settings.module_version("sigs.k8s.io/metrics-server")
    provisioner = settings.module_version("github.com/rancher/local-path-provisioner")
    return (
        Program("hyperkube", "./hyperkube", "hyperkube", kubernetes_flags, KUBERNETES),
        Program("netpold", "./netpold", "netpold", links=("house-netpol",)),
        Program("probe", "./probe", "probe"),
        Program("coredns", "./coredns", "coredns"),
        Program(
            "local-path-provisioner",
            "github.com/rancher/local-path-provisioner",
            version_flags=f"-X main.VERSION={provisioner}",
        ),
        Program(
            "metrics-server",
            "sigs.k8s.io/metrics-server/cmd/metrics-server",
            version_flags=f"-X k8s.io/component-base/version.gitVersion={metrics}",
        ),
    )


def program(name: str) -> Path:
    """Path of a compiled program, under its own name or one that it is linked as (`kubelet`, `kubectl`)."""
    for one in programs():
        if name == one.name or name in one.links:
            return _folder(one) / name
    raise LookupError(name)


def pause_program() -> Path:
    """Path of the compiled pause program."""
    source = (settings.GO_SOURCES / "pause.c").read_bytes()
    return settings.build_dir() / f"pause-{hashlib.sha256(source).hexdigest()[:12]}" / "pause"


def _folder(one: Program) -> Path:
    return _store(one.module) / f"{one.name}-{_key(one)}"


def _store(module: Path) -> Path:
    """The cache folder of a module's programs, named as the package under ci/ that holds the module."""
    return cache_dir() / module.relative_to(CHECKOUT / "ci").parts[0]


@cache
def _key(one: Program) -> str:
    found = hashlib.sha256()
    files = [file for name in ("go.mod", "go.sum") if (file := one.module / name).exists()]
    if one.sources:
        own = (one.module / one.sources).glob("*.go")
        files += sorted(file for file in own if not file.name.endswith("_test.go"))
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    found.update(f"{_toolchain(one.module)}\0{one.package}\0{_flags(one)}".encode())
    return found.hexdigest()[:12]


def _flags(one: Program) -> str:
    return f"-s -w {one.version_flags}".strip()


def environment(module: Path) -> dict[str, str]:
    """The environment of a module's builds; a go.mod that names a toolchain is built with exactly that one."""
    named = re.search(r"^toolchain (go\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    return go_environment() | ({"GOTOOLCHAIN": named.group(1)} if named else {})


@cache
def _toolchain(module: Path = settings.GO_SOURCES) -> str:
    """Version of the Go toolchain that a module is built with, such as `go1.26.8`.

    Raises:
        Failure: there is none, or it is older than go.mod asks for.
    """
    needed = settings.go_version(module)
    wanted = ".".join(map(str, needed))
    remedy = f"install Go {wanted} or newer and put its bin folder on PATH"
    if not shutil.which("go"):
        raise Failure(f"there is no Go toolchain, and the one-node cluster is compiled from Go modules: {remedy}")
    said = run(["go", "env", "GOVERSION"], cwd=module.parent, env=environment(module)).stdout.strip()
    found = re.match(r"go(\d+(?:\.\d+)*)", said)
    if not found or tuple(int(part) for part in found.group(1).split(".")) < needed:
        where = (module / "go.mod").relative_to(CHECKOUT)
        raise Failure(f"the Go toolchain on PATH is {said}, {where} needs {wanted}: {remedy}")
    return said


def install_packages() -> None:
    """Install the Debian packages that are missing."""
    debian.install(PACKAGES)


def compile_programs() -> int:
    """Compile what the cache lacks, one program at a time; returns how many Go programs were compiled."""
    compiled = compile_missing(programs())
    pause = pause_program()
    if not pause.exists():
        pause.parent.mkdir(parents=True, exist_ok=True)
        partial = pause.with_suffix(".partial")
        run(["gcc", "-Os", "-static", "-s", "-o", partial, settings.GO_SOURCES / "pause.c"])
        partial.replace(pause)
    return compiled


def compile_missing(all_of: Sequence[Program]) -> int:
    """Compile those that the cache lacks, one at a time; returns how many that were."""
    wanted = [one for one in all_of if not one.path.exists()]
    for number, one in enumerate(wanted, 1):
        following = wanted[number].name if number < len(wanted) else "the images"
        say(f"compiling {one.name} ({number} of {len(wanted)})" + (" ... minutes on a cold cache" * (number == 1)))
        began = time.monotonic()
        folder = _folder(one)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        log = folder.parent / "log" / f"{one.name}.log"
        command = ["nice", "-n", "5", "go", "build", "-ldflags", _flags(one), "-o", str(partial / one.name)]
        run([*command, one.package], cwd=one.module, env=environment(one.module), log=log)
        for link in one.links:
            (partial / link).symlink_to(one.name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        say(f"compiled {one.name} in {time.monotonic() - began:.0f} s; next: {following}")
    return len(wanted)


def recipes() -> dict[str, tuple[str, Recipe]]:
    """The cluster's own images: short name to (version, recipe)."""
    users = {
        "etc": Entry(),
        "etc/passwd": Entry(text="root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", mode=0o644),
        "etc/group": Entry(text="root:x:0:\nnogroup:x:65534:\n", mode=0o644),
        "tmp": Entry(mode=0o1777),
    }
    shell = {
        **users,
        "bin": Entry(),
        "bin/busybox": Entry(file=BUSYBOX),
        **{f"bin/{name}": Entry(link="busybox") for name in _applets()},
    }

    def version(module: str) -> str:
        return settings.module_version(module).removeprefix("v")

    return {
        "pause": ("1", Recipe({"pause": Entry(file=pause_program())}, entrypoint=("/pause",), user="65535:65535")),
        "coredns": (
            version("github.com/coredns/coredns"),
            Recipe({**users, "coredns": Entry(file=program("coredns"))}, entrypoint=("/coredns",), user="65534:65534"),
        ),
        "metrics-server": (
            version("sigs.k8s.io/metrics-server"),
            Recipe(
                {**users, "metrics-server": Entry(file=program("metrics-server"))},
                entrypoint=("/metrics-server",),
                user="65534:65534",
            ),
        ),
        "local-path-provisioner": (
            version("github.com/rancher/local-path-provisioner"),
            Recipe(
                {**users, "local-path-provisioner": Entry(file=program("local-path-provisioner"))},
                entrypoint=("/local-path-provisioner",),
                user="65534:65534",
            ),
        ),
        # a shell for local-path volumes, and the client of the cluster's tests
        "probe": ("1", Recipe({**shell, "bin/probe": Entry(file=program("probe"))}, cmd=("/bin/sh",))),
    }


def _applets() -> list[str]:
    return [name for name in run([BUSYBOX, "--list"]).stdout.split() if name != "busybox"]


def image_name(short: str) -> str:
    """Full name of one of the cluster's own images; its tag changes when anything in it does."""
    return _image_names()[short]


@cache
def _image_names() -> dict[str, str]:
    return {
        short: f"{settings.IMAGE_PREFIX}/{short}:{version}-{_recipe_key(recipe)}"
        for short, (version, recipe) in recipes().items()
    }


def _recipe_key(recipe: Recipe) -> str:
    found = hashlib.sha256(Path(mkimage.__file__).read_bytes())
    found.update(repr((recipe.entrypoint, recipe.cmd, recipe.user)).encode())
    for path, entry in sorted(recipe.entries.items()):
        found.update(repr((path, entry.text, entry.link, entry.mode)).encode())
        if entry.file:
            found.update(hashlib.sha256(entry.file.read_bytes()).digest())
    return found.hexdigest()[:12]


def image_archive(short: str) -> Path:
    """Path of the OCI archive of one of the cluster's own images."""
    tag = image_name(short).rpartition(":")[2]
    return settings.build_dir() / "images" / f"{short}-{tag}.tar"


def make_images() -> int:
    """Write the archives that the cache lacks; returns how many were written."""
    _image_names.cache_clear()  # the programs may have been compiled since
    made = 0
    for short, (_, recipe) in recipes().items():
        archive = image_archive(short)
        if not archive.exists():
            archive.parent.mkdir(parents=True, exist_ok=True)
            mkimage.write(image_name(short), recipe, archive)
            made += 1
    return made


def drop_old(keep_days: float = 14) -> None:
    """Delete programs and archives of earlier versions that were not built in the last `keep_days`."""
    current = {_folder(one) for one in programs()} | {pause_program().parent}
    current |= {image_archive(short) for short in recipes()}
    forget(settings.build_dir(), current, keep_days)


def forget(folder: Path, current: set[Path], keep_days: float = 14) -> None:
    """Delete programs and archives in a cache folder, but for `current` ones and those of the last `keep_days`."""
    before = time.time() - keep_days * 86400
    for path in [*folder.glob("*-????????????"), *folder.glob("*.partial"), *folder.glob("images/*")]:
        if path not in current and path.stat().st_mtime < before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
