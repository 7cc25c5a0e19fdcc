"""Check whether the platform can run here, and print a fix for each problem.

    python -m ci.doctor                    the machine, the network, every image, the cluster, and what is installed
    python -m ci.doctor --no-cluster       the machine alone, before Kubernetes is installed
    python -m ci.doctor --before           what an install needs: neither images nor what is installed
    python -m ci.doctor --probe            also test with its own pods that network policies are enforced
    python -m ci.doctor --requirements FILE    with Python's standard library alone (the bundle has FILE)

Ends with 0 if nothing fails (a warning is not a failure), else with 1. Changes nothing, except with --probe, which
creates a namespace and removes it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ci.common import kube
from ci.common.console import Failure, main
from ci.doctor import host, network
from ci.doctor.checklist import before, guarded, installed, on_cluster, own_cluster
from ci.doctor.requirements import Requirements, load
from ci.doctor.result import FAIL, fail, table


def load_requirements(file: str, env: str) -> Requirements:
    """Requirements of the environment: from a file, or from the charts of this checkout (needs its .venv).

    Raises:
        Failure: there is no file, and the checkout has no .venv.
    """
    if file:
        return load(Path(file))
    try:
        from ci.doctor.rendered import (
            requirements,  # needs packages; the doctor itself needs only the standard library
        )
    except ImportError as missing:
        raise Failure(f"{missing}: run `make doctor`, or pass --requirements FILE") from missing
    return requirements(env)


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", default="kind", help="environment: values/<env>.yaml (default: %(default)s)")
    parser.add_argument(
        "--requirements",
        default="",
        metavar="FILE",
        help="what the environment needs, by `python -m ci.doctor.rendered`",
    )
    parser.add_argument("--no-cluster", action="store_true", help="check only the machine")
    parser.add_argument("--before", action="store_true", help="check neither images nor the installed platform")
    parser.add_argument("--installed", action="store_true", help="fail if the platform is not installed")
    parser.add_argument("--probe", action="store_true", help="test with pods that network policies are enforced")
    parser.add_argument(
        "--pod-cidr", default=network.POD_CIDR, help="of the cluster to be installed (default: %(default)s)"
    )
    parser.add_argument("--service-cidr", default=network.SERVICE_CIDR, help="likewise (default: %(default)s)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=host.default_data_dir(),
        help="folder of the cluster's images and volumes (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, default=10, help="seconds for each connection (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()

    needs = load_requirements(options.requirements, options.env)
    why = ""
    if not options.no_cluster:
        try:
            kube.kube("get", "--raw", "/readyz", "--request-timeout=5s", timeout=15)
        except Failure as away:
            why = str(away).splitlines()[-1]
    reachable = not (options.no_cluster or why)
    planned = (options.pod_cidr, options.service_cidr)
    results = before(needs, reachable, options.data_dir, planned, options.timeout)
    if reachable:
        results += on_cluster(needs, options.probe, options.before)
        if not options.before:
            results += installed(needs, options.installed, options.timeout)
    elif why:
        fix = "start it (make cluster, systemctl start k3s), set KUBECONFIG; or --no-cluster to check only the machine"
        results.append(fail("kubernetes", f"no cluster answers: {why}", fix))
        results += guarded("kind", own_cluster)
    well = not any(one.level == FAIL for one in results)
    if options.json:
        print(json.dumps({"ok": well, "env": needs.env, "results": [one.to_json() for one in results]}, indent=2))
    else:
        print(table(results), flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    main(_main)
