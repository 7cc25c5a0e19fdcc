"""The programs and small images that a node image is made of, compiled from Go modules."""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path

from ci.cluster.registryless import oci_image
from ci.cluster.registryless.oci_image import LayerEntry, Recipe
from ci.common.console import run
from ci.common.goprograms import GoProgram, compile_missing, module_version
from ci.common.paths import cache_dir

SOURCES = Path(__file__).parent / "go"
STORE = "cluster"  # in the cache
BUSYBOX = Path("/bin/busybox")  # of Debian's package busybox-static
PREFIX = "localhost/house-cluster"
# hyperkube is run under these names
KUBERNETES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubeadm",
              "kubectl")  # fmt: skip
USERS = {
    "etc": LayerEntry(),
    "etc/passwd": LayerEntry(text="root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", mode=0o644),
    "etc/group": LayerEntry(text="root:x:0:\nnogroup:x:65534:\n", mode=0o644),
    "tmp": LayerEntry(mode=0o1777),
}


def version(module: str) -> str:
    """Version of a module of the node image, such as `v1.36.3`."""
    return module_version(module, SOURCES)


def all_programs() -> tuple[GoProgram, ...]:
    """The programs in the order in which they are compiled."""
    kubernetes = version("k8s.io/kubernetes")
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

    def own(name: str, flags: str = "", links: tuple[str, ...] = ()) -> GoProgram:
        return GoProgram(name, f"./{name}", SOURCES, STORE, name, flags, links)

    def foreign(name: str, module: str, package: str, flag: str) -> GoProgram:
        return GoProgram(name, f"{module}{package}", SOURCES, STORE, version_flags=f"-X {flag}={version(module)}")

    return (
        own("hyperkube", kubernetes_flags, KUBERNETES),
        own("netpold"),
        own("probe"),
        own("coredns"),
        foreign("local-path-provisioner", "github.com/rancher/local-path-provisioner", "", "main.VERSION"),
        foreign("metrics-server", "sigs.k8s.io/metrics-server", "/cmd/metrics-server",
                "k8s.io/component-base/version.gitVersion"),
    )  # fmt: skip


def program(name: str) -> Path:
    """Path of a compiled program, under its own name or one of its links (`kubelet`, `kubectl`)."""
    for one in all_programs():
        if name == one.name or name in one.links:
            return one.folder / name
    raise LookupError(name)


def compile_all() -> int:
    """Compile what the cache lacks; returns how many programs were compiled."""
    return compile_missing(all_programs())


def compile_probe() -> Path:
    """Compile the test client alone, and return its path."""
    compile_missing([one for one in all_programs() if one.name == "probe"])
    return program("probe")


def pause() -> Path:
    """The program that holds a pod's namespaces, compiled from C unless the cache has it."""
    source = Path(__file__).with_name("pause.c")
    folder = cache_dir() / STORE / f"pause-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not (folder / "pause").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-Os", "-static", "-s", "-o", folder / "pause.partial", source])
        (folder / "pause.partial").replace(folder / "pause")
    return folder / "pause"


def probe_recipe() -> Recipe:
    """A shell and the test client: for local-path volumes, and for the tests of the cluster."""
    applets = [name for name in run([BUSYBOX, "--list"]).stdout.split() if name != "busybox"]
    shell = {
        "bin": LayerEntry(),
        "bin/busybox": LayerEntry(file=BUSYBOX),
        **{f"bin/{name}": LayerEntry(link="busybox") for name in applets},
        "bin/probe": LayerEntry(file=compile_probe()),
    }
    return Recipe({**USERS, **shell}, cmd=("/bin/sh",))


@cache
def probe_image() -> str:
    """Full name of the image with the test client. Its tag changes when anything in it does."""
    return f"{PREFIX}/probe:1-{recipe_key(probe_recipe())}"


def probe_archive() -> Path:
    """The OCI archive of the test client, written unless the cache has it."""
    archive = cache_dir() / STORE / "images" / f"probe-{probe_image().rpartition(':')[2]}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        oci_image.write(probe_image(), probe_recipe(), archive)
    return archive


def recipe_key(recipe: Recipe) -> str:
    """Hash of everything that is in an image."""
    digest = hashlib.sha256(Path(oci_image.__file__).read_bytes())
    digest.update(repr((recipe.entrypoint, recipe.cmd, recipe.user)).encode())
    for path, entry in sorted(recipe.entries.items()):
        digest.update(repr((path, entry.text, entry.link, entry.mode)).encode())
        if entry.file:
            digest.update(hashlib.sha256(entry.file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def image_recipes(filters: dict[str, LayerEntry]) -> dict[str, Recipe]:
    """The images that a node needs, by the names that kubeadm and kind's manifests give them.

    `filters` holds the programs nft (for the pod network) and iptables (for kube-proxy) with their libraries.
    """
    kubernetes = version("k8s.io/kubernetes")
    binaries = {"usr": LayerEntry(), "usr/local": LayerEntry(), "usr/local/bin": LayerEntry()}
    binaries["usr/local/bin/hyperkube"] = LayerEntry(file=program("hyperkube"))
    links = {f"usr/local/bin/{name}": LayerEntry(link="hyperkube") for name in KUBERNETES}
    control_plane = Recipe({**USERS, **binaries, **links})
    registry = "registry.k8s.io"
    images = {f"{registry}/{name}:{kubernetes}": control_plane
              for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")}  # fmt: skip
    images[f"{registry}/etcd:{etcd_tag()}"] = control_plane
    images[f"{registry}/kube-proxy:{kubernetes}"] = Recipe({**USERS, **binaries, **links, **filters})
    images[f"{registry}/pause:{PAUSE_TAG}"] = Recipe({"pause": LayerEntry(file=pause())}, entrypoint=("/pause",),
                                                     user="65535:65535")  # fmt: skip
    images[f"{registry}/coredns/coredns:{version('github.com/coredns/coredns')}"] = _alone(
        "coredns",
        user="",  # kubeadm's pod grants the capability for port 53, which only root has at once
    )
    images[f"{registry}/metrics-server/metrics-server:{version('sigs.k8s.io/metrics-server')}"] = _alone(
        "metrics-server"
    )
    images[local_path_image()] = _alone("local-path-provisioner")
    images[netpold_image()] = Recipe(
        {**{path: entry for path, entry in binaries.items() if not entry.file}, **filters,
         "usr/local/bin/netpold": LayerEntry(file=program("netpold"))}
    )  # fmt: skip
    images[probe_image()] = probe_recipe()
    return images


PAUSE_TAG = "3.10.2"  # as kubeadm of this version names it


def etcd_tag() -> str:
    """Tag of etcd's image, as kubeadm of this version names it."""
    return f"{version('go.etcd.io/etcd/server/v3').removeprefix('v')}-0"


def local_path_image() -> str:
    """Name of the image of the volumes' provisioner."""
    return f"{PREFIX}/local-path-provisioner:{version('github.com/rancher/local-path-provisioner')}"


def netpold_image() -> str:
    """Name of the image of the pod network."""
    return f"{PREFIX}/netpold:{program('netpold').parent.name.removeprefix('netpold-')}"


def _alone(name: str, user: str = "65534:65534") -> Recipe:
    return Recipe({**USERS, name: LayerEntry(file=program(name))}, entrypoint=(f"/{name}",), user=user)


def write_images(filters: dict[str, LayerEntry], folder: Path) -> None:
    """Write one OCI archive for each image into `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (name, recipe) in enumerate(image_recipes(filters).items()):
        oci_image.write(name, recipe, folder / f"{number:02}.tar")
