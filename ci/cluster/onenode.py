"""The one-node cluster: upstream Kubernetes as processes of this machine, without a container registry."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ci.cluster import build as parts
from ci.cluster import configs, host, pki, processes, settings
from ci.cluster.settings import state
from ci.console import Failure, phase, run, say
from ci.gocache import trim_go_cache

# in the order in which they start
COMPONENTS = (
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "netpold",
    "kubelet",
    "kube-proxy",
)
ADD_ONS = {
    "coredns": "kube-system/coredns",
    "local-path": "local-path-storage/local-path-provisioner",
    "metrics-server": "kube-system/metrics-server",
}


def exists() -> bool:
    """True if this machine has a one-node cluster, running or stopped."""
    return state("etcd").exists()


def build() -> None:
    """Build what the cache lacks: packages, programs, images."""
    with _alone(), phase("build the one-node cluster", then="start it"):
        parts.install_packages()
        compiled, made = parts.compile_programs(), parts.make_images()
        parts.drop_old()
        if compiled or made:
            trim_go_cache()
        say(f"compiled {compiled} programs, made {made} images; the rest was in {settings.build_dir()}")


def up() -> None:
    """Bring the cluster up: build what is missing, start what does not run, apply what differs."""
    say("one-node cluster: for development, tests and CI on machines without a container registry; not for production")
    host.require_root()
    build()
    with _alone():
        _prepare()
        with phase("start containerd", then="import the cluster's images"):
            _start_containerd()
        with phase("import the cluster's images", then="start the control plane"):
            missing = [short for short in parts.recipes() if parts.image_name(short) not in present_images()]
            for short in missing:
                import_archive(parts.image_archive(short))
        with phase("start the control plane", then="start the node"):
            _start_control_plane()
        with phase("start the node", then="apply DNS, storage and metrics"):
            _start_node()
        with phase("apply DNS, storage and metrics", then="wait for them"):
            manifests = [configs.manifest(name, bool(configs.nameservers())) for name in ADD_ONS]
            _kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin="\n---\n".join(manifests))
        with phase("wait for DNS, storage and metrics"):
            processes.await_ready(configs.kubelet(), "the restart of all containers", lambda: not _unsettled(), 180)
            for deployment in ADD_ONS.values():
                _await_add_on(*deployment.split("/"))
    say(f"the cluster is up: export KUBECONFIG={settings.kubeconfig_path()}  (or: eval $(python -m ci.cluster env))")


def start() -> None:
    """Start a stopped cluster with everything that was in it.

    Raises:
        Failure: there is none.
    """
    if not exists():
        raise Failure("there is no one-node cluster on this machine: `python -m ci.cluster up` makes one")
    up()


def stop() -> None:
    """End all of the cluster's processes and take its mounts and rules back; the state folder keeps everything else."""
    host.require_root()
    with _alone():
        with phase("stop what starts containers", then="stop the containers"):
            for name in reversed(COMPONENTS[3:]):
                processes.stop(name)
        with phase("stop the containers", then="stop the API server and containerd"):
            host.end_containers()
        with phase("stop the API server and containerd", then="take mounts, interfaces and rules back"):
            # after the containers: the API server waits for the ends of their watches
            for name in reversed(COMPONENTS[:3]):
                processes.stop(name)
        with phase("take mounts, interfaces and rules back"):
            host.take_back()


def down() -> None:
    """Remove the cluster with all volumes and images in it; the cache of compiled programs stays.

    Raises:
        Failure: something was left behind; it is named.
    """
    stop()
    host.restore()
    shutil.rmtree(state(), ignore_errors=True)
    left = host.leftovers()
    if left:
        raise Failure("the cluster left something behind:\n  " + "\n  ".join(left))
    say("nothing is left of the cluster but the cache")


def status() -> int:
    """Print each component and the node; returns the number of components that do not run."""
    if not exists():
        say("there is no one-node cluster on this machine")
        return len(COMPONENTS)
    dead, memory = 0, 0.0
    for name in COMPONENTS:
        process = processes.running(name)
        if process:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            mib = pages * os.sysconf("SC_PAGESIZE") / 2**20
            memory += mib
            say(f"{name:<24} pid {process.pid:<8} {mib:6.0f} MiB")
        else:
            dead += 1
            say(f"{name:<24} does not run; {processes.log_file(name)}")
    say(f"{'in all':<24} {'':<12} {memory:6.0f} MiB")
    if not dead:
        print(_kubectl("get", "nodes", "-o", "wide"), end="")
        print(_kubectl("get", "pods", "-A", "-o", "wide"), end="", flush=True)
    return dead


def kubectl() -> Path:
    """The kubectl that belongs to this cluster's version."""
    return state("bin", "kubectl")


def import_archive(archive: Path) -> None:
    """Import an OCI archive into the cluster's image store."""
    run([*_ctr(), "images", "import", archive])


def present_images() -> set[str]:
    """Names of the images in the cluster's image store."""
    return set(run([*_ctr(), "images", "ls", "-q"]).stdout.split())


def _ctr() -> list[str]:
    return ["ctr", "-a", str(settings.SOCKET), "-n", "k8s.io"]


def _kubectl(*words: str, stdin: str | None = None, check: bool = True) -> str:
    command: list[str | Path] = [kubectl(), "--kubeconfig", settings.kubeconfig_path(), *words]
    return run(command, stdin=stdin, check=check).stdout


@contextmanager
def _alone() -> Iterator[None]:
    """Let one build, start or stop run at a time on this machine; another one waits."""
    settings.build_dir().mkdir(parents=True, exist_ok=True)
    with (settings.build_dir() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another `ci.cluster` on this machine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare() -> None:
    """Folders, the machine's network, keys and configuration files."""
    if not exists() and host.leftovers():
        say("removing what a cluster without its state folder left behind")
        host.take_back()
    host.check_free()
    for folder in ("cni/bin", "cni/conf", "etc", "etcd", "kubelet", "pod-logs", "volumes", "volume-plugins", "bin"):
        state(folder).mkdir(parents=True, exist_ok=True)
    state("etcd").chmod(0o700)
    settings.RUN.mkdir(parents=True, exist_ok=True)
    host.set_up()
    if pki.make():
        say("made keys and certificates")
    # containerd takes one folder of plugins: Debian's and ours, side by side
    for plugin in ("host-local", "loopback", "ptp"):
        _link(state("cni", "bin", plugin), settings.CNI_PLUGINS / plugin)
    _link(state("cni", "bin", "house-netpol"), parts.program("house-netpol"))
    _link(state("bin", "kubectl"), parts.program("kubectl"))
    for file, text in configs.files(host.mtu()).items():
        _put(file, text)


def _start_containerd() -> None:
    component = configs.containerd()
    processes.start(component)

    def answers() -> bool:
        return run([*_ctr(), "version"], check=False).returncode == 0

    processes.await_ready(component, "the container runtime", answers, 60)


def _start_control_plane() -> None:
    api = configs.apiserver()
    for component in (configs.etcd(), api):
        processes.start(component)
    processes.await_ready(api, "the API server", lambda: _kubectl("get", "--raw", "/readyz", check=False) == "ok", 120)
    access = (settings.MANIFESTS / "access.yaml").read_text()
    _kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=access)
    for component in (configs.controller_manager(), configs.scheduler()):
        processes.start(component)


def _start_node() -> None:
    enforcer, agent = configs.netpold(), configs.kubelet()
    processes.start(enforcer)
    processes.await_ready(enforcer, "the policy enforcer", settings.NETPOL_SOCKET.is_socket, 60)
    for component in (agent, configs.kube_proxy()):
        processes.start(component)

    def ready() -> bool:
        path = "{.status.conditions[?(@.type=='Ready')].status}"
        return _kubectl("get", "node", settings.NODE, "-o", f"jsonpath={path}", check=False) == "True"

    processes.await_ready(agent, "the node", ready, 120)


def _await_add_on(namespace: str, name: str) -> None:
    deployment = ["-n", namespace, f"deployment/{name}"]
    try:
        _kubectl("rollout", "status", *deployment, "--timeout=180s")
    except Failure as slow:
        pods = _kubectl("get", "pods", "-n", namespace, check=False)
        log = _kubectl("logs", *deployment, "--tail=15", check=False)
        raise Failure(f"{name} did not become Ready; {slow}\n{pods}\nits log ends with:\n{log}") from slow


def _unsettled() -> list[str]:
    """Pods whose containers the API shows as they were before the start, and add-ons that are not ready."""
    tasks = set(run([*_ctr(), "tasks", "ls", "-q"]).stdout.split())
    add_ons = {add_on.split("/")[0] for add_on in ADD_ONS.values()}

    def settled(pod: dict[str, Any], container: dict[str, Any]) -> bool:
        if "deletionTimestamp" in pod["metadata"] or pod["spec"]["restartPolicy"] == "Never":
            return "running" not in container["state"] or container["containerID"].split("//")[1] in tasks
        if "running" in container["state"]:
            ready = container["ready"] or pod["metadata"]["namespace"] not in add_ons
            return ready and container["containerID"].split("//")[1] in tasks
        return "terminated" not in container["state"] or pod["spec"]["restartPolicy"] != "Always"

    return [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in json.loads(_kubectl("get", "pods", "-A", "-o", "json"))["items"]
        for container in pod["status"].get("containerStatuses", [])
        if not settled(pod, container)
    ]


def _put(file: Path, text: str) -> None:
    """Write a file only if it differs: kube-proxy ends itself when its configuration is written."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
