"""A Kubernetes cluster for the platform: CLUSTER=current (the current kubeconfig context), kind, or onenode.

  up      bring it up; what runs already is left alone, what was interrupted is taken up again
  stop    end its processes, keeping volumes, releases and images     start   the reverse
  down    remove all of it but the cache of compiled programs         status  what runs
  build   only make what `up` needs                                   env     shell lines for kubectl: eval $(...)

Without CLUSTER (or --kind): kind where `docker info` and kind work, else the one-node cluster, which needs root.
"""

from __future__ import annotations

import argparse
import shlex

from ci.cluster.kinds import KINDS, Cluster, choose
from ci.console import main


def shell_lines(cluster: Cluster) -> str:
    """What a shell needs to talk to the cluster."""
    config = cluster.kubeconfig()
    lines = [f"export KUBECONFIG={shlex.quote(str(config))}"] if config else []
    return "\n".join([*lines, f"export PATH={shlex.quote(str(cluster.kubectl().parent))}:$PATH"])


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["up", "down", "stop", "start", "status", "build", "env"])
    parser.add_argument("--kind", choices=KINDS, help="kind of cluster (default: $CLUSTER, else auto)")
    options = parser.parse_args()
    cluster = choose(options.kind)
    if options.action == "env":
        print(shell_lines(cluster))
        return 0
    if options.action == "status":
        return cluster.status()
    getattr(cluster, options.action)()
    return 0


if __name__ == "__main__":
    main(_main)
