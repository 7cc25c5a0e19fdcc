"""Run a command of the pipeline in a pod like those of its stages, print its log, and remove the pod.

python -m ci.deploy.commands smoke
python -m ci.deploy.commands lineage --version 3
python -m ci.deploy.commands rollback --to 3 --reason "prices of condos were absurd"
"""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys

from ci.common.console import Failure, main, wait_for
from ci.common.kube import JOBS, Object, environment, get, kube, kubectl, trouble
from ci.deploy.workloads import hopeless
from pipeline.arguments import parser

TEMPLATE = "pipeline"  # PodTemplate of charts/airflow
ENDED = ("Succeeded", "Failed")


def pod(template: Object, words: list[str], actor: str) -> Object:
    """A pod from the template that runs `python -m pipeline` with these arguments. The ledger records the actor."""
    made: Object = json.loads(json.dumps(template))
    [container] = made["spec"]["containers"]
    container["args"] = words
    container["env"].append({"name": "ACTOR", "value": actor})
    metadata = made["metadata"] | {"generateName": f"pipeline-{words[0]}-", "namespace": JOBS}
    return made | {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def who() -> str:
    """The user of this machine, and the user that the API server knows, if it says so (Kubernetes 1.28 or newer)."""
    local = os.environ.get("SUDO_USER") or getpass.getuser()
    user = kube("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", check=False).strip()
    return f"{local} (Kubernetes user {user})" if user else local


def run(words: list[str], seconds: float = 3600) -> int:
    """Run `python -m pipeline` with these arguments on the current cluster and return its exit code.

    Raises:
        Failure: the platform is not installed, or the pod did not start or end.
    """
    if not kube("-n", JOBS, "get", "podtemplates", TEMPLATE, "-o", "name", "--ignore-not-found"):
        raise Failure(f"there is no PodTemplate {TEMPLATE} in {JOBS}: install the platform (`make install`)")
    made = pod(get("-n", JOBS, "podtemplates", TEMPLATE)["template"], words, who())
    name = kube("create", "-f", "-", "-o", "name", stdin=json.dumps(made)).strip()
    try:
        wait_for(f"the start of {name}", lambda: _started(name), 300)
        subprocess.run([kubectl(), "-n", JOBS, "logs", "-f", name], env=environment(), check=False)
        wait_for(f"the end of {name}", lambda: _now(name)["status"]["phase"] in ENDED, seconds)
        return _exit_code(_now(name))
    finally:
        kube("-n", JOBS, "delete", name, "--wait=false", "--ignore-not-found")


def _now(name: str) -> Object:
    return get("-n", JOBS, name)


def _started(name: str) -> bool:
    current = _now(name)
    if why := hopeless(current):
        raise Failure(f"{name} cannot start: {why}")
    return current["status"]["phase"] not in ("Pending", "Unknown")


def _exit_code(ended: Object) -> int:
    for box in ended["status"].get("containerStatuses", []):
        if "terminated" in box["state"]:
            return int(box["state"]["terminated"]["exitCode"])
    raise Failure(f"{ended['metadata']['name']} did not run: {trouble(ended)}")


def _main() -> int:
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return 0
    parser().parse_args(sys.argv[1:])  # wrong arguments fail here, before a pod is created
    return run(sys.argv[1:])


if __name__ == "__main__":
    main(_main)
