"""A receiver of Alertmanager's webhooks in the cluster: a pod that prints every body, and reads of what it got."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ci.common import restricted_pod
from ci.common.console import wait_for
from ci.common.kube import get, kube

SPACE = "alert-receiver"
PORT = 8080
SERVE = """
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(json.dumps({"path": self.path, "body": body}), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

# one request at a time: two threads would mix their lines
http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Notice:
    """One alert of one notification. `status` is `firing` or `resolved`."""

    path: str
    status: str
    alert: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Receiver:
    """The address of the pod. No NetworkPolicy selects it."""

    address: str

    def url(self, path: str) -> str:
        """URL of a path, for one of Alertmanager's receivers."""
        return f"http://{self.address}:{PORT}/{path}"

    def notices(self, path: str) -> list[Notice]:
        """Everything that arrived at a path, in order."""
        calls = [json.loads(line) for line in kube("-n", SPACE, "logs", "receiver").splitlines()]
        return [
            Notice(path, alert["status"], alert["labels"]["alertname"], alert["labels"])
            for call in calls
            if call["path"] == f"/{path}"
            for alert in call["body"]["alerts"]
        ]


@contextmanager
def receiver(image: str) -> Iterator[Receiver]:
    """Run the receiver in a namespace of its own, which is removed afterwards. `image` needs python3."""
    kube("delete", "namespace", SPACE, "--ignore-not-found", "--timeout=120s", timeout=150)
    for item in (_namespace(), _pod(image)):
        kube("apply", "-f", "-", stdin=json.dumps(item))
    try:
        kube("-n", SPACE, "wait", "--for=condition=Ready", "pod/receiver", "--timeout=120s", timeout=150)
        wait_for("the address of the receiver", lambda: "podIP" in get("-n", SPACE, "pod", "receiver")["status"], 30)
        yield Receiver(get("-n", SPACE, "pod", "receiver")["status"]["podIP"])
    finally:
        kube("delete", "namespace", SPACE, "--wait=false", "--ignore-not-found")


def _namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}


def _pod(image: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", SERVE],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "receiver", "namespace": SPACE},
        "spec": restricted_pod.spec(container),
    }
