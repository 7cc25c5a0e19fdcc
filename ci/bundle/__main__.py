"""Write one file with everything that a machine without a registry needs to run an environment.

python -m ci.bundle --env vm      build/house-platform-<version>-<commit>-vm.tar.zst, and its checksum beside it
... --sign-with <private key>     also its signature, <bundle>.sig

It holds the images by digest, exactly as values/images-<env>.yaml names them. README.md lists the rest of its content.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ci.bundle import argocd
from ci.bundle.make import make
from ci.bundle.sign import sign
from ci.common.console import Failure, main, say
from ci.common.environments import known_env
from ci.common.paths import CHECKOUT


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: values/<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=CHECKOUT / "build", help="folder (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a value, like helm --set"
    )
    parser.add_argument(
        "--no-argocd", action="store_true", help="omit Argo CD; the bundle then installs with Helm only"
    )
    parser.add_argument(
        "--sign-with", type=Path, metavar="KEY", help="private key of ssh-keygen, or its public key if an agent has it"
    )
    options = parser.parse_args()
    key: Path | None = options.sign_with
    if key and not key.is_file():
        raise Failure(f"the signing key {key} does not exist: create it with `ssh-keygen -t ed25519 -f {key}`")
    source = None if options.no_argocd else argocd.built()
    packed = make(options.env, options.output, options.set, argocd=source)
    say(f"wrote {packed}: {packed.stat().st_size / 1e6:,.0f} MB; {packed.name}.sha256 beside it")
    if key:
        say(f"signed: {sign(packed, key).name} beside it")


if __name__ == "__main__":
    main(_main)
