"""The node image for kind, built from Debian packages and Go modules and named by the hash of its inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from ci.cluster.registryless import programs
from ci.cluster.registryless.oci_image import LayerEntry
from ci.common import debian
from ci.common.console import phase, run, say
from ci.common.gocache import trim_go_cache
from ci.common.goprograms import drop_old, environment
from ci.common.paths import cache_dir

HERE = Path(__file__).parent / "node"
KIND_MODULE = Path(__file__).parent.parent / "kind_program"
SUITE = "trixie"
# On the machine: for the base, for the small images, and for the programs in C.
MACHINE_PACKAGES = ("busybox-static", "debian-archive-keyring", "gcc", "libc6-dev", "mmdebstrap")
# In the image.
NODE_PACKAGES = (
    "bash", "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "curl", "dbus", "e2fsprogs",
    "ethtool", "hostname", "iproute2", "iptables", "jq", "kmod", "libseccomp2", "mount", "nftables", "procps", "runc",
    "socat", "systemd", "systemd-sysv", "util-linux",
)  # fmt: skip
LEGACY_CGROUPS = ("systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
REPOSITORY = "house-platform/node"


def name() -> str:
    """Name of the image with the hash of its inputs as the end of its tag."""
    digest = hashlib.sha256()
    files = [Path(__file__), Path(programs.__file__), *sorted(HERE.iterdir()), KIND_MODULE / "go.sum"]
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    for program in programs.all_programs():
        digest.update(program.folder.name.encode())
    digest.update(json.dumps(_entrypoint()).encode())
    return f"{REPOSITORY}:{programs.version('k8s.io/kubernetes')}-{digest.hexdigest()[:12]}"


def compile_programs() -> None:
    """Compile what the image needs, and drop earlier versions from the cache."""
    debian.install(MACHINE_PACKAGES)
    compiled = programs.compile_all()
    programs.pause()
    current = {program.folder for program in programs.all_programs()}
    drop_old(cache_dir() / programs.STORE, current | {programs.pause().parent, programs.probe_archive()})
    if compiled:
        trim_go_cache()


def build(docker: Mapping[str, str]) -> str:
    """Build the image unless the engine has it; returns its name.

    `docker` is the environment in which `docker` reaches the engine.

    Raises:
        Failure: this is not Debian, not root, there is no Go toolchain, or a step failed.
    """
    compile_programs()
    image = name()
    if run(["docker", "image", "inspect", image], env=docker, check=False).returncode == 0:
        return image
    context = cache_dir() / "cluster" / "node-context"
    shutil.rmtree(context, ignore_errors=True)
    with phase("build the node image"):
        base = _base(docker)
        filters = _packet_filters(docker, base, context / "filters")
        programs.write_images(filters, context / "images")
        _write_context(context / "node")
        stage = image.replace(":", "-stage:")
        _docker(docker, "build", "-q", "--build-arg", f"BASE={base}", "-t", stage, str(context / "node"))
        _import_images(docker, stage, context / "images", image)
        _docker(docker, "image", "rm", stage, check=False)
    shutil.rmtree(context)
    _drop_old_images(docker, image)
    say(f"built {image}")
    return image


def _docker(docker: Mapping[str, str], *words: str, check: bool = True) -> str:
    # the client of Debian 12 builds with BuildKit only where a plugin is installed
    return run(["docker", *words], env={**docker, "DOCKER_BUILDKIT": "0"}, check=check).stdout


def _base(docker: Mapping[str, str]) -> str:
    """Debian with systemd and what a node needs, as an image of the engine; returns its name."""
    digest = hashlib.sha256(json.dumps([SUITE, NODE_PACKAGES]).encode()).hexdigest()[:12]
    base = f"house-platform/node-base:{SUITE}-{digest}"
    if run(["docker", "image", "inspect", base], env=docker, check=False).returncode == 0:
        return base
    archive = cache_dir() / "cluster" / "node-base.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale")]
    main, security = debian.mirrors()
    sources = [f"deb {main} {SUITE} main", f"deb {main} {SUITE}-updates main", f"deb {security} {SUITE}-security main"]
    with phase("make the Debian base of the node image"):
        run(
            ["mmdebstrap", "--variant=minbase", f"--include={','.join(NODE_PACKAGES)}",
             "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", '--aptopt=APT::Install-Recommends "false"',
             *excluded, '--customize-hook=rm -rf "$1"/var/cache/apt/* "$1"/etc/apt/sources.list*',
             SUITE, archive, *sources],
            log=cache_dir() / "log" / "node-base.log",
        )  # fmt: skip
        _docker(docker, "import", str(archive), base)
    archive.unlink()
    return base


def _packet_filters(docker: Mapping[str, str], base: str, folder: Path) -> dict[str, LayerEntry]:
    """The programs nft and iptables with their libraries and their loader, copied out of the base."""
    folder.mkdir(parents=True)
    script = (
        'files="/usr/sbin/nft /usr/sbin/iptables /usr/sbin/iptables-save /usr/sbin/iptables-restore '
        '$(echo /usr/lib/*/xtables/*.so)"; '
        "libraries=$(ldd $files | grep -v ':$' | grep -o '/[^ ]*' | sort -u); "
        "tar -chf - -C / $(echo $files $libraries | sed 's,/,,; s, /, ,g')"
    )
    archive = folder / "files.tar"
    container = _docker(docker, "create", "--entrypoint", "sh", base, "-c", f"{script} > /files.tar").strip()
    try:
        _docker(docker, "start", "--attach", container)
        _docker(docker, "cp", f"{container}:/files.tar", str(archive))
    finally:
        _docker(docker, "rm", "-f", container)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): LayerEntry(file=path) for path in files}


def _write_context(context: Path) -> None:
    """kind's own files, read from its module, and ours."""
    answer = run(["go", "mod", "download", "-json", "sigs.k8s.io/kind"], cwd=KIND_MODULE, env=environment(KIND_MODULE))
    theirs = Path(json.loads(answer.stdout)["Dir"]) / "images" / "base" / "files"
    own = context / "own"
    for part in ("etc", "usr", "kind"):
        shutil.copytree(theirs / part, context / "kind" / part, copy_function=_copy)
    for unused in ("etc/containerd/config.toml", "usr/local/bin/clean-install",
                   "etc/systemd/system/containerd.service",
                   "etc/systemd/system/containerd-fuse-overlayfs.service"):  # fmt: skip
        (context / "kind" / unused).unlink()
    for folder in ("etc/containerd", "etc/systemd/system", "usr/bin", "kind/manifests"):
        (own / folder).mkdir(parents=True)
    _copy(HERE / "containerd.toml", own / "etc/containerd/config.toml")
    _copy(HERE / "containerd.service", own / "etc/systemd/system/containerd.service")
    shutil.copy(programs.program("hyperkube"), own / "usr/bin/hyperkube")
    shutil.copy(programs.program("netpold"), own / "kind/netpold")
    (own / "kind/version").write_text(programs.version("k8s.io/kubernetes"))
    images = {
        "IMAGE_NETPOLD": programs.netpold_image(),
        "IMAGE_PROBE": programs.probe_image(),
        "IMAGE_LOCAL_PATH_PROVISIONER": programs.local_path_image(),
    }
    for manifest in ("default-cni.yaml", "default-storage.yaml"):
        text = (HERE / manifest).read_text()
        for placeholder, image in images.items():
            text = text.replace(placeholder, image)
        (own / "kind/manifests" / manifest).write_text(text)
    _copy(HERE / "Dockerfile", context / "Dockerfile")


def _copy(source: str | Path, target: str | Path) -> None:
    """Copy a file's content; the modules' cache is read-only."""
    shutil.copyfile(source, target)


def _import_images(docker: Mapping[str, str], stage: str, archives: Path, image: str) -> None:
    """Put the small images into the stage's containerd, as kind's own build does, and commit the result."""
    container = _docker(
        docker, "run", "--detach", "--privileged", "--cgroupns=private", "--entrypoint", "sleep", stage, "infinity"
    ).strip()
    script = (
        "set -e; containerd > /tmp/containerd.log 2>&1 & "
        "for attempt in $(seq 100); do ctr version > /dev/null 2>&1 && break; sleep 0.2; done; "
        "for archive in /archives/*.tar; do "
        'ctr -n k8s.io images import --all-platforms --no-unpack --digests "$archive" '
        "|| { cat /tmp/containerd.log; exit 1; }; "
        "done; kill $!; wait; rm -rf /tmp/containerd.log /archives"
    )
    try:
        _docker(docker, "cp", f"{archives}/.", f"{container}:/archives")
        _docker(docker, "exec", container, "bash", "-c", script)
        entrypoint = f"ENTRYPOINT {json.dumps(_entrypoint())}"
        _docker(docker, "commit", "--change", entrypoint, container, image)
    finally:
        _docker(docker, "rm", "-f", "-v", container)


def _entrypoint() -> list[str]:
    """How a node starts. systemd of Debian 13 must be asked for control groups of version 1, where those are used."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return ["/usr/local/bin/entrypoint", "/sbin/init", *(() if unified else LEGACY_CGROUPS)]


def _drop_old_images(docker: Mapping[str, str], current: str) -> None:
    """Remove node images of earlier inputs that no container uses."""
    for image in _docker(docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split():
        if image != current:
            _docker(docker, "image", "rm", image, check=False)
