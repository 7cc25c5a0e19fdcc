"""Clients that request prices from the predictor in a loop while a test changes the platform.

They run in a pod of the cluster and use the predictor's Service, like other programs in the cluster. The Service
balances over the predictor's pods. The pod is on the control plane, so that it stays when a worker is drained.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ci.common import restricted_pod
from ci.common.console import Failure, wait_for
from ci.common.kube import PLATFORM, Object, as_list, get, kube
from ci.common.sample_listing import LISTING
from ci.images import values
from ci.images.catalog import REGISTRY
from tests.kit import load_generator
from tests.kit.load_generator import CONTROL, LoadGenerator

IMAGE = "predictor"  # has Python and httpx
PROGRAM = Path(load_generator.__file__)
LABELS = {"app.kubernetes.io/name": "test-clients", "access/fastapi": "true"}


def control_plane() -> str:
    """Name of the tainted node, which takes no ordinary pods. Without taints, the name of the first node."""
    taints = {node["metadata"]["name"]: node["spec"].get("taints", []) for node in get("nodes")["items"]}
    return next((name for name, taint in taints.items() if taint), next(iter(taints)))


def start_pod(name: str, node: str, command: list[str]) -> None:
    """Replace the pod with a pod that runs `command` on `node`, and wait until it is Ready."""
    entry = values.read("kind")[IMAGE]
    image = f"{REGISTRY}/{IMAGE}:{entry.tag}" + (f"@{entry.digest}" if entry.digest else "")
    container = {
        "name": "clients",
        "image": image,
        "command": command,
        "volumeMounts": [{"name": "control", "mountPath": str(CONTROL)}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }
    volumes = [{"name": "control", "emptyDir": {}}]
    spec = restricted_pod.spec(container, user=10001, nodeName=node, terminationGracePeriodSeconds=0, volumes=volumes)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": LABELS},
        "spec": spec,
    }
    kube("-n", PLATFORM, "delete", "pod", name, "--ignore-not-found", "--grace-period=0", "--force")
    kube("-n", PLATFORM, "apply", "-f", "-", stdin=as_list([_policy(), pod]))
    kube("-n", PLATFORM, "wait", "pod", name, "--for=condition=Ready", "--timeout=180s", timeout=200)


def _policy() -> Object:
    """Egress to DNS and the predictor.

    The chart fastapi has the same rules for its clients, but tests also run while that chart is upgraded or replaced,
    and then the chart postgres may already deny what the chart fastapi does not allow yet.
    """
    dns = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }  # fmt: skip
    predictor = {
        "to": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "fastapi"}}}],
        "ports": [{"port": 8000}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "test-clients", "namespace": PLATFORM},
        "spec": {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Egress"], "egress": [dns, predictor]},
    }


class Clients:
    """Clients in a pod of the cluster, or in this process if `url` is set.

    With `seconds`, the pod sends requests for that time and needs nothing from outside, not even the API server. The
    counts are complete when the block ends. Without `seconds`, it sends requests until the block ends.
    """

    def __init__(
        self, threads: int = 4, pause: float = 0.05, url: str = "", node: str = "", seconds: float = 0
    ) -> None:
        """Prepare the clients; `with` starts them. The pod runs on `node`, by default on the control plane."""
        self._local = LoadGenerator(url, threads, LISTING, pause) if url else None
        self._threads, self._pause, self._node, self._seconds = threads, pause, node, seconds
        self._pod = "test-clients-timed" if seconds else "test-clients"
        self._end = threading.Event()
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self.answered: Counter[str] = Counter()  # by the model's version
        self.prices: Counter[str] = Counter()  # of the one listing that all clients send
        self.failures: list[str] = []
        self.slowest = 0.0  # seconds

    @property
    def pause(self) -> float:
        """Seconds between an answer and the next request. Can be set at any time."""
        return self._pause

    @pause.setter
    def pause(self, seconds: float) -> None:
        if seconds == self._pause:
            return
        self._pause = seconds
        if self._local:
            self._local.pause = seconds
        else:
            self._control(f"echo {seconds} > {CONTROL}/pause")

    def __enter__(self) -> Clients:
        """Start the clients."""
        if self._local:
            self._local.start()
            self.answered, self.prices = self._local.answered, self._local.prices
            self.failures = self._local.failures
            return self
        numbers = [str(self._threads), str(self._pause), str(self._seconds)]
        arguments = [f"http://fastapi.{PLATFORM}:8000", *numbers, json.dumps(LISTING)]
        command = ["python3", "-c", PROGRAM.read_text(), *arguments]
        start_pod(self._pod, self._node or control_plane(), command)
        if not self._seconds:
            self._reader.start()
        return self

    def _control(self, script: str) -> None:
        """Run a shell command in the pod, again while the API server or the node does not answer."""

        def done() -> bool:
            try:
                kube("-n", PLATFORM, "exec", self._pod, "--", "sh", "-c", script, timeout=20)
            except Failure:
                return False
            return True

        wait_for(f"`{script}` in the pod {self._pod}", done, 120, every=1)

    def _follow(self) -> None:
        """Take the newest counts every second. A log that cannot be read is read later."""
        while not self._end.wait(1):
            with suppress(Failure, ValueError):
                self._take(json.loads(kube("-n", PLATFORM, "logs", self._pod, "--tail=1", timeout=20)))

    def _take(self, counts: dict[str, Any]) -> None:
        self.answered, self.prices = Counter(counts["answered"]), Counter(counts["prices"])
        self.failures, self.slowest = counts["failures"], counts["slowest"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clients after they have received the answers to their requests."""
        if self._local:
            self._local.stop()
            self.slowest = self._local.slowest
        elif error is None:

            def ended() -> bool:
                return get("-n", PLATFORM, "pod", self._pod)["status"]["phase"] in ("Succeeded", "Failed")

            if not self._seconds:
                self._control(f"touch {CONTROL}/end")
                self._end.set()
                self._reader.join(30)
            wait_for("the end of the clients", ended, self._seconds + 60, every=1)
            self._take(json.loads(kube("-n", PLATFORM, "logs", self._pod, "--tail=1")))
        self._end.set()
        if not self._local:
            kube("-n", PLATFORM, "delete", "pod", self._pod, "--ignore-not-found", "--wait=false", check=False)

    def __str__(self) -> str:
        """The numbers of requests and failures, and the slowest answer."""
        by_version = ", ".join(f"{count:,} by version {version}" for version, count in sorted(self.answered.items()))
        total = sum(self.answered.values()) + len(self.failures)
        return f"{total:,} requests: {by_version}; {len(self.failures)} failed; slowest {self.slowest:.2f} s"
