"""A Kubernetes cluster for the platform: CLUSTER=kind (the default) or current (the current kubeconfig context).

  up       create the cluster (NODES=3 by default), start it if it is stopped, change nothing if it runs
  stop     stop the nodes; volumes, releases and images stay
  start    start a stopped cluster
  down     remove everything except the cache
  status   print nodes and pods
  build    make the engine, the program kind and the node image, but no cluster
  env      print shell lines for kubectl: eval $(...)
  confirm  fail unless `up` created the current cluster, or CONFIRM is the name of its context

kind uses the Docker engine that answers. If none answers and the user is root on Debian, Docker from Debian's packages
runs in a network namespace of its own. NODE_IMAGE replaces kind's official node image.
"""

from __future__ import annotations

import argparse
import shlex

from ci.cluster.choice import KINDS, Cluster, choose
from ci.cluster.confirm import confirm_removal
from ci.common.console import main


def shell_lines(cluster: Cluster) -> str:
    """Shell lines that set the variables and the PATH for the cluster."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment().items()]
    return "\n".join([*lines, f"export PATH={shlex.quote(str(cluster.kubectl().parent))}:$PATH"])


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["up", "down", "stop", "start", "status", "build", "env", "confirm"])
    parser.add_argument("--kind", choices=KINDS, help="kind of cluster (default: $CLUSTER, else kind)")
    options = parser.parse_args()
    cluster = choose(options.kind)
    if options.action == "env":
        print(shell_lines(cluster))
        return 0
    if options.action == "confirm":
        confirm_removal("an installed platform with all its data")
        return 0
    if options.action == "status":
        return cluster.status()
    getattr(cluster, options.action)()
    return 0


if __name__ == "__main__":
    main(_main)
