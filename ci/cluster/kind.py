"""The kind cluster: nodes as containers, with kind's official image or, without a registry, an image built here."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ci.cluster import containers, docker, settings
from ci.cluster.configuration import configuration
from ci.cluster.containers import control_plane_id, foreign_containers, nodes, paused_nodes, running_nodes
from ci.cluster.docker import Docker
from ci.cluster.image import choose_image, is_built_here, outdated
from ci.cluster.readiness import kubectl, not_ready, unsettled, wait_ready
from ci.cluster.record import CREATING, Record, read_record, write_record
from ci.cluster.registryless import engine, programs
from ci.cluster.requirements import check_room, refuse_foreign
from ci.cluster.settings import CONTROL_PLANE, NAME, state
from ci.common.console import Failure, phase, run, say, wait_for
from ci.common.gocache import compiled
from ci.common.paths import cache_dir

METRICS_SERVER = Path(__file__).with_name("metrics-server.yaml")
DNS_BUDGET = Path(__file__).with_name("dns-disruption-budget.yaml")


class Kind:
    """The kind cluster `house`."""

    name = "kind"

    def build(self) -> None:
        """Make what `up` needs: the engine, the program kind, the node image."""
        with _alone():
            self._prepare()

    def up(self) -> None:
        """Create the cluster, start it if it is stopped, or leave it alone if it runs.

        Raises:
            Failure: a program or a resource is missing, `up` did not create the cluster of this name, or a step failed.
        """
        with _alone():
            record = read_record()
            if record and record.container == CREATING:
                say("the creation of the cluster was interrupted; it begins again")
                self._delete(docker.of_cluster())
                record = None
            if record is None:
                self._create()
            else:
                self._take_up(record)
        say(
            f"the cluster is up: export KUBECONFIG={settings.kubeconfig_path()}  (or: eval $(python -m ci.cluster env))"
        )

    def start(self) -> None:
        """Start a stopped cluster with everything that was in it.

        Raises:
            Failure: there is no cluster.
        """
        if read_record() is None:
            raise Failure("there is no kind cluster of this platform: `make cluster` creates one")
        self.up()

    def stop(self) -> None:
        """Stop the nodes. Volumes, releases and images stay.

        Raises:
            Failure: there is no cluster.
        """
        record = read_record()
        if record is None:
            raise Failure("there is no kind cluster of this platform: nothing to stop")
        with _alone():
            docker_engine = Docker(record.own_engine)
            if not record.own_engine or engine.answers():
                with phase("stop the nodes"):
                    docker_engine.run("stop", "--time", "20", *nodes(docker_engine))
            if record.own_engine and not foreign_containers(docker_engine):
                with phase("stop Docker"):
                    engine.stop()

    def down(self) -> None:
        """Remove the cluster with its volumes and images. The cache stays.

        Raises:
            Failure: `up` did not create the cluster of this name, or the engine left something behind, which is named.
        """
        with _alone():
            docker_engine = docker.of_cluster()
            record = read_record()
            if record is None and not docker_engine.own:
                refuse_foreign(docker_engine)
            if record is not None or engine.answers():
                with phase("delete the cluster"):
                    docker_engine.up()
                    self._delete(docker_engine)
            others = foreign_containers(docker_engine) if docker_engine.own and engine.answers() else []
            if others:
                say(f"Docker keeps running, because it has other containers: {', '.join(others)}")
            elif docker_engine.own:
                engine.undo()
            shutil.rmtree(state(), ignore_errors=True)
            left = engine.leftovers() if docker_engine.own and not others else []
        if left:
            raise Failure("the cluster left something behind:\n  " + "\n  ".join(left))
        say("nothing is left of the cluster except the cache")

    def status(self) -> int:
        """Print the nodes and their pods; returns the number of nodes, add-ons and DaemonSets that are not ready."""
        record = read_record()
        if record is None:
            say("there is no kind cluster of this platform")
            return 1
        docker_engine = Docker(record.own_engine)
        say(f"node image {record.image}, {'Docker from Debian packages' if record.own_engine else 'Docker'}")
        if record.own_engine and not engine.answers():
            say("Docker is stopped: `make cluster-start` starts the cluster")
            return 1
        print(
            docker_engine.run("ps", "-a", "--filter", containers.LABEL, "--format", "table {{.Names}}\t{{.Status}}"),
            end="",
        )
        print(kubectl("get", "nodes", "-o", "wide", check=False), end="")
        print(kubectl("get", "pods", "-A", "-o", "wide", check=False), end="", flush=True)
        return len(not_ready())

    def kubectl(self) -> Path:
        """The kubectl of the cluster's own version; the one on PATH before the cluster exists.

        Raises:
            Failure: kubectl is not installed, and there is no cluster.
        """
        if settings.kubectl_path().exists():
            return settings.kubectl_path()
        program = shutil.which("kubectl")
        if not program:
            raise Failure("there is no kind cluster of this platform, and kubectl is not installed: `make cluster`")
        return Path(program)

    def kubeconfig(self) -> Path | None:
        """The kubeconfig of the cluster."""
        return settings.kubeconfig_path()

    def environment(self) -> dict[str, str]:
        """Variables that a shell needs to work with the cluster."""
        record = read_record()
        variables = {"KUBECONFIG": str(settings.kubeconfig_path())}
        if record and record.own_engine:
            variables["DOCKER_HOST"] = engine.environment()["DOCKER_HOST"]
        return variables

    def import_archives(self, archives: Sequence[Path]) -> None:
        """Import OCI archives into all nodes in parallel. A node unpacks an image when its first pod starts.

        Raises:
            Failure: a node refused an archive.
        """
        docker_engine = docker.of_cluster()

        def into(node: str) -> None:
            command = ["docker", "exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import"]
            for archive in archives:
                with archive.open("rb") as source:
                    done = subprocess.run(
                        [*command, "--all-platforms", "--no-unpack", "-"],
                        stdin=source, capture_output=True, text=True, env=dict(docker_engine.environment), check=False,
                    )  # fmt: skip
                if done.returncode:
                    raise Failure(f"node {node} could not import {archive.name}: {done.stderr.strip()[-500:]}")

        with ThreadPoolExecutor() as pool:
            list(pool.map(into, nodes(docker_engine)))

    def present_images(self) -> set[str]:
        """Names of the images that every node has."""
        docker_engine = docker.of_cluster()
        lists = [
            set(docker_engine.run("exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q").split())
            for node in nodes(docker_engine)
        ]
        return set.intersection(*lists) if lists else set()

    def node_network(self) -> str | None:
        """The network that all nodes are in; their addresses in it change when Docker restarts."""
        return containers.node_network(docker.of_cluster())

    def _prepare(self) -> tuple[Docker, str, str]:
        """Make the engine, kind and the node image ready; returns the engine, the path of kind and the image's name."""
        docker_engine = docker.choose()
        if docker_engine.own:
            say("no Docker engine answers here: using one from Debian's packages")
            engine.require_root()
        docker_engine.up()
        return docker_engine, kind_program(), choose_image(docker_engine)

    def _create(self) -> None:
        count = settings.wanted_nodes() or settings.DEFAULT_NODES
        docker_engine, program, image = self._prepare()
        refuse_foreign(docker_engine)
        check_room(docker_engine)
        write_record(Record(CREATING, image, docker_engine.own))
        began = time.monotonic()
        with phase(f"create the kind cluster ({count} node{'s' * (count > 1)}, {image})", then="wait for every node"):
            log = state("log", "kind.log")
            command = [program, "create", "cluster", "--name", NAME, "--config", "-", "--image", image,
                       "--kubeconfig", str(settings.kubeconfig_path())]  # fmt: skip
            done = run(command, env=docker_engine.environment, stdin=configuration(count, docker_engine), check=False)
            log.write_text(done.stdout + done.stderr)
            if done.returncode:
                tail = "\n".join(done.stderr.strip().splitlines()[-25:])
                raise Failure(f"kind could not create the cluster (whole log: {log}):\n{tail}")
        write_record(Record(control_plane_id(docker_engine), image, docker_engine.own))
        self._copy_kubectl(docker_engine, image)
        kubectl("apply", "--server-side", "-f", str(METRICS_SERVER))
        if count > 1:
            # kubeadm starts both DNS pods on the control plane, before another node exists, so DNS would fail while
            # the control plane is down. Without the tolerations the pods move to workers, and their anti-affinity
            # puts them on two.
            patch = '[{"op": "remove", "path": "/spec/template/spec/tolerations"}]'
            wait_for("the workers", lambda: not [late for late in not_ready() if late.startswith("node ")], 120)
            kubectl("-n", "kube-system", "patch", "deployment", "coredns", "--type=json", "-p", patch)
            kubectl("apply", "--server-side", "-f", str(DNS_BUDGET))
        with phase("wait for every node, DNS, storage and metrics"):
            wait_ready()
        seconds = time.monotonic() - began
        write_record(Record(control_plane_id(docker_engine), image, docker_engine.own, seconds))
        say(f"the cluster is ready {seconds:.0f} s after its creation began")

    def _take_up(self, record: Record) -> None:
        """Start the cluster that exists, and wait until it is ready."""
        docker_engine = Docker(record.own_engine)
        docker_engine.up()
        if control_plane_id(docker_engine) != record.container:
            raise Failure(
                f"the kind cluster {NAME} is not the one that `make cluster` created (its control plane was replaced): "
                f"`kind delete cluster --name {NAME}`, then `make cluster-down` and `make cluster`"
            )
        wanted, present = settings.wanted_nodes(), nodes(docker_engine)
        if wanted and wanted != len(present):
            raise Failure(
                f"the cluster has {len(present)} nodes and NODES={wanted} asks for {wanted}: `make cluster-down` "
                "removes it with its data, then `make cluster` creates the new one"
            )
        if paused := paused_nodes(docker_engine):
            say(f"resume {', '.join(paused)}, which somebody paused")
            docker_engine.run("unpause", *paused)
        if len(running_nodes(docker_engine)) < len(present):
            with phase("start the nodes"):
                docker_engine.run("start", *present)
        for text in outdated(record):
            say(f"{text}: `make cluster-down cluster` replaces the cluster and removes its data")
        if not settings.kubectl_path().exists():
            self._copy_kubectl(docker_engine, record.image)
        with phase("wait for every node, DNS, storage and metrics"):
            # Docker may have started the nodes just now, by itself
            wait_for("the restart of all containers", lambda: not unsettled(docker_engine), 240, every=1)
            wait_ready()

    def _copy_kubectl(self, docker_engine: Docker, image: str) -> None:
        target = settings.kubectl_path()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if is_built_here(image):
            target.symlink_to(programs.program("kubectl"))
        else:
            docker_engine.run("cp", f"{CONTROL_PLANE}:/usr/bin/kubectl", str(target))

    def _delete(self, docker_engine: Docker) -> None:
        command = [kind_program(), "delete", "cluster", "--name", NAME]
        run([*command, "--kubeconfig", str(settings.kubeconfig_path())], env=docker_engine.environment)
        state("cluster.json").unlink(missing_ok=True)
        settings.kubeconfig_path().unlink(missing_ok=True)


def kind_program() -> str:
    """Path of kind: the program on PATH, or a program compiled from its Go module.

    Raises:
        Failure: there is neither kind nor Go.
    """
    present = shutil.which("kind")
    if present:
        return present
    if not shutil.which("go"):
        raise Failure("kind is not installed, and there is no Go to compile it with: install kind or Go")
    return str(compiled(settings.KIND_MODULE, "sigs.k8s.io/kind", "kind"))


@contextmanager
def _alone() -> Iterator[None]:
    """Exclusive lock: one build, start or stop runs at a time on this machine, and others wait."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "cluster.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another `ci.cluster` on this machine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
