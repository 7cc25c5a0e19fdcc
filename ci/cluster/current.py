"""The cluster of the current kubeconfig context. It is used, but never started, stopped or removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ci.common.console import Failure, run, say


class Current:
    """A cluster that somebody else operates."""

    name = "current"

    def build(self) -> None:
        """Do nothing: the cluster exists."""

    def up(self) -> None:
        """Check that the cluster answers.

        Raises:
            Failure: there is no current context, or its cluster does not answer.
        """
        context = run([self.kubectl(), "config", "current-context"], check=False).stdout.strip()
        if not context:
            raise Failure("CLUSTER=current, but there is no current kubeconfig context: set KUBECONFIG")
        answer = run([self.kubectl(), "get", "--raw", "/readyz", "--request-timeout=5s"], check=False)
        if answer.stdout != "ok":
            raise Failure(
                f"the cluster of the current context {context} does not answer: {answer.stderr.strip()[-300:]}"
            )
        say(f"using the cluster of the current context {context}; it is never started, stopped or removed from here")

    start = up

    def stop(self) -> None:
        """Refuse.

        Raises:
            Failure: always.
        """
        raise Failure(
            "CLUSTER=current is somebody else's cluster and is never stopped or removed from here: "
            "`make remove` removes only the platform"
        )

    down = stop

    def status(self) -> int:
        """Print the nodes."""
        self.up()
        print(run([self.kubectl(), "get", "nodes", "-o", "wide"]).stdout, end="", flush=True)
        return 0

    def kubectl(self) -> Path:
        """The kubectl on PATH.

        Raises:
            Failure: kubectl is not installed.
        """
        program = shutil.which("kubectl")
        if not program:
            raise Failure("kubectl is not installed: install it, or use CLUSTER=kind, whose nodes bring one")
        return Path(program)

    def kubeconfig(self) -> Path | None:
        """None: kubectl uses the kubeconfig of the environment."""
        return None

    def environment(self) -> dict[str, str]:
        """Empty: the shell needs no further variables."""
        return {}

    def node_network(self) -> str | None:
        """None: the network of the nodes is unknown."""
        return None

    def import_archives(self, archives: Sequence[Path]) -> None:
        """Refuse.

        Raises:
            Failure: always.
        """
        names = ", ".join(archive.name for archive in archives)
        raise Failure(
            f"{names} cannot be imported into the cluster of the current context from here: push the images to a "
            "registry that it pulls from, or, on K3s, copy the archives to /var/lib/rancher/k3s/agent/images/"
        )

    def present_images(self) -> set[str]:
        """Names of the images that the nodes report. A kubelet reports only its 50 largest images."""
        nodes = json.loads(run([self.kubectl(), "get", "nodes", "-o", "json"]).stdout)["items"]
        return {name for node in nodes for image in node["status"].get("images", []) for name in image["names"]}
