"""Serve the Ingresses of a kind cluster with Traefik, the ingress controller that K3s has.

  up        compile Traefik, make its image, load it, install it in kube-system, and wait until it is Ready
  build     only the image, unless it is in the cache
  remove    delete Traefik and its definitions

It serves the IngressClass `traefik`. Open it with `kubectl -n kube-system port-forward svc/traefik 8443:443`.
"""

from __future__ import annotations

import argparse

from ci.common.console import main, say
from ci.traefik import build, install


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.traefik", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["up", "build", "remove"])
    action = parser.parse_args().action
    if action == "up":
        install.up()
    elif action == "build":
        say(f"Traefik's image is {build.build()}")
    else:
        install.remove()


if __name__ == "__main__":
    main(_main)
