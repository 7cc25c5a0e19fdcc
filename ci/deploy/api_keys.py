"""Make, revoke and list the keys of the price service's clients.

A key is shown once, when it is made. The cluster has only its SHA-256: the Secret `fastapi-clients` has one entry per
client. The predictors read it again by themselves, so nothing is restarted.

python -m ci.deploy.api_keys make --name shop
python -m ci.deploy.api_keys revoke --name shop
python -m ci.deploy.api_keys list
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets

from ci.common.console import Failure, main, say
from ci.common.kube import PLATFORM, kube
from ci.deploy.secrets import add

SECRET = "fastapi-clients"  # noqa: S105  # a name
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DELAY = "within about two minutes, when the kubelet has updated the volume of each pod"


def clients() -> list[str]:
    """Names of the clients that have a key, sorted."""
    template = '{{range $name, $_ := .data}}{{$name}}{{"\\n"}}{{end}}'
    words = ["get", "secret", SECRET, "--ignore-not-found", "-o", f"go-template={template}"]
    return sorted(kube("-n", PLATFORM, *words).split())


def make(name: str) -> str:
    """Make a key for a new client, store its SHA-256, and return the key.

    Raises:
        Failure: the name is not usable, or the client has a key already. Nothing was changed.
    """
    if not NAME.fullmatch(name):
        raise Failure(
            f"`{name}` is not a name of a client: use up to 63 lower-case letters, digits and hyphens, for example "
            "NAME=shop"
        )
    if name in clients():
        raise Failure(
            f"the client {name} already has a key, which was not changed. To replace it without an interruption, make "
            f"one with another name (NAME={name}-2), give it to the client, and revoke this one"
        )
    key = secrets.token_urlsafe(32)
    exists = bool(kube("-n", PLATFORM, "get", "secret", SECRET, "--ignore-not-found", "-o", "name"))
    add((PLATFORM, SECRET), {name: hashlib.sha256(key.encode()).hexdigest()}, exists)
    return key


def revoke(name: str) -> None:
    """Remove the key of a client.

    Raises:
        Failure: no client has that name.
    """
    present = clients()
    if name not in present:
        raise Failure(f"no client is called `{name}`. Clients with a key: {', '.join(present) or 'none'}")
    patch = json.dumps({"data": {name: None}})
    kube("-n", PLATFORM, "patch", "secret", SECRET, "--type=merge", "--patch-file=/dev/stdin", stdin=patch)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.api_keys", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, text in (("make", "make a key for a new client and print it"), ("revoke", "remove a client's key")):
        commands.add_parser(command, help=text).add_argument("--name", required=True, help="name of the client")
    commands.add_parser("list", help="print the names of the clients that have a key")
    options = parser.parse_args()
    if options.command == "make":
        key = make(options.name)
        say(f"the client {options.name} has a key, which is valid {DELAY}. It is shown only now:")
        print(key)
    elif options.command == "revoke":
        revoke(options.name)
        say(f"the key of the client {options.name} is revoked: it gets 401 {DELAY}")
    else:
        for name in clients():
            print(name)


if __name__ == "__main__":
    main(_main)
