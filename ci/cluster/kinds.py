"""Which cluster is meant, and the same few verbs for each kind of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Protocol

from ci.cluster import onenode, settings
from ci.console import Failure, phase, run, say

KINDS = ("auto", "onenode", "kind", "current")
KIND_CLUSTER = "house"
KIND_NODE = f"{KIND_CLUSTER}-control-plane"


class Cluster(Protocol):
    """A kind of cluster."""

    name: str

    def build(self) -> None:
        """Make what `up` needs."""

    def up(self) -> None:
        """Bring it up; again changes nothing."""

    def start(self) -> None:
        """Start it after a stop."""

    def stop(self) -> None:
        """Stop it, keeping what is in it."""

    def down(self) -> None:
        """Remove it."""

    def status(self) -> int:
        """Print how it is; 0 if well."""

    def kubectl(self) -> Path:
        """A kubectl for it."""

    def kubeconfig(self) -> Path | None:
        """Its kubeconfig; None means that of the environment."""

    def import_archive(self, archive: Path) -> None:
        """Import an OCI archive."""

    def present_images(self) -> set[str]:
        """Names of its images."""


class OneNode:
    """Upstream Kubernetes as processes of this machine."""

    name = "onenode"
    build = staticmethod(onenode.build)
    up = staticmethod(onenode.up)
    start = staticmethod(onenode.start)
    stop = staticmethod(onenode.stop)
    down = staticmethod(onenode.down)
    status = staticmethod(onenode.status)
    kubectl = staticmethod(onenode.kubectl)
    kubeconfig = staticmethod(settings.kubeconfig_path)
    import_archive = staticmethod(onenode.import_archive)
    present_images = staticmethod(onenode.present_images)


class Current:
    """The current kubeconfig context: only looked at, never started or removed."""

    name = "current"

    def build(self) -> None:
        """Nothing to build."""

    def up(self) -> None:
        """Check that it answers.

        Raises:
            Failure: it does not.
        """
        context = run([self.kubectl(), "config", "current-context"], check=False).stdout.strip()
        if not context:
            raise Failure("CLUSTER=current, but there is no current kubeconfig context: set KUBECONFIG")
        answer = run([self.kubectl(), "get", "--raw", "/readyz", "--request-timeout=5s"], check=False)
        if answer.stdout != "ok":
            raise Failure(
                f"the cluster of the current context {context} does not answer: {answer.stderr.strip()[-300:]}"
            )
        say(f"using the cluster of the current context {context}; it is not ours to start, stop or remove")

    start = up

    def stop(self) -> None:
        """Refuse."""
        raise Failure(
            "CLUSTER=current is somebody else's cluster, neither stopped nor removed from here: "
            "`make remove` removes the platform from it"
        )

    down = stop

    def status(self) -> int:
        """Print its nodes."""
        self.up()
        print(run([self.kubectl(), "get", "nodes", "-o", "wide"]).stdout, end="", flush=True)
        return 0

    def kubectl(self) -> Path:
        """The kubectl on PATH."""
        return _kubectl_on_path()

    def kubeconfig(self) -> Path | None:
        """That of the environment."""
        return None

    def import_archive(self, archive: Path) -> None:
        """Refuse."""
        raise Failure(
            f"{archive.name} cannot be imported into the current context's cluster from here: push the images to a "
            "registry that it pulls from, or, on K3s, copy the archive to /var/lib/rancher/k3s/agent/images/"
        )

    def present_images(self) -> set[str]:
        """What its nodes report; a kubelet reports its 50 largest images only."""
        nodes = json.loads(run([self.kubectl(), "get", "nodes", "-o", "json"]).stdout)["items"]
        return {name for node in nodes for image in node["status"].get("images", []) for name in image["names"]}


class Kind(Current):
    """A kind cluster in Docker, with the same pod and service networks as the one-node cluster."""

    name = "kind"

    def up(self) -> None:
        """Create it unless it is there.

        Raises:
            Failure: kind failed.
        """
        if KIND_CLUSTER in run(["kind", "get", "clusters"]).stdout.split():
            run(["docker", "start", KIND_NODE])
            run(["kind", "export", "kubeconfig", "--name", KIND_CLUSTER])
        else:
            with phase("create the kind cluster"):
                run(
                    ["kind", "create", "cluster", "--name", KIND_CLUSTER, "--config", "-", "--wait", "180s"],
                    stdin=kind_config(),
                )
        say(f"the cluster is up: context kind-{KIND_CLUSTER}")

    start = up

    def stop(self) -> None:
        """Stop its node."""
        run(["docker", "stop", KIND_NODE])

    def down(self) -> None:
        """Delete it."""
        run(["kind", "delete", "cluster", "--name", KIND_CLUSTER])

    def import_archive(self, archive: Path) -> None:
        """Copy the archive into the node and import it there."""
        inside = f"/root/{archive.name}"
        run(["docker", "cp", archive, f"{KIND_NODE}:{inside}"])
        run([*_in_kind("ctr", "-n", "k8s.io", "images", "import", inside)])
        run([*_in_kind("rm", inside)])

    def present_images(self) -> set[str]:
        """Names of the images in its node."""
        return set(run([*_in_kind("ctr", "-n", "k8s.io", "images", "ls", "-q")]).stdout.split())

    def status(self) -> int:
        """Print its nodes."""
        print(run([self.kubectl(), "--context", f"kind-{KIND_CLUSTER}", "get", "nodes", "-o", "wide"]).stdout, end="")
        return 0


def kind_config() -> str:
    """Configuration of the kind cluster."""
    return f"""kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  podSubnet: {settings.POD_CIDR}
  serviceSubnet: {settings.SERVICE_CIDR}
"""


def choose(wanted: str | None = None) -> Cluster:
    """The cluster that is meant: `wanted`, else the environment's CLUSTER, else what this machine can do.

    A one-node cluster that exists wins over the choice of kind, so that `stop` and `down` find what `up` made.

    Raises:
        Failure: there is no such kind.
    """
    kind = wanted or os.environ.get("CLUSTER") or "auto"
    if kind not in KINDS:
        raise Failure(f"there is no cluster of the kind {kind!r}: CLUSTER (or --kind) is one of {', '.join(KINDS)}")
    if kind == "auto":
        kind = "kind" if not onenode.exists() and shutil.which("kind") and _docker_answers() else "onenode"
    found: dict[str, type[Cluster]] = {"onenode": OneNode, "kind": Kind, "current": Current}
    return found[kind]()


def _docker_answers() -> bool:
    # the program may be on the PATH without an engine behind it
    return bool(shutil.which("docker")) and run(["docker", "info"], check=False, timeout=20).returncode == 0


def _in_kind(*words: str) -> list[str]:
    return ["docker", "exec", KIND_NODE, *words]


def _kubectl_on_path() -> Path:
    found = shutil.which("kubectl")
    if not found:
        raise Failure("kubectl is not installed: install it, or use CLUSTER=onenode, which builds its own")
    return Path(found)
