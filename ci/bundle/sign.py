"""Signs a bundle with a key of its publisher."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ci.common.console import Failure

NAMESPACE = "house-platform-bundle"  # as in signature.sh, which checks signatures


def signature(packed: Path) -> Path:
    """Path of the signature of a bundle, which is beside it."""
    return packed.with_name(f"{packed.name}.sig")


def sign(packed: Path, key: Path) -> Path:
    """Sign every byte of a packed bundle in OpenSSH's format; returns the signature.

    `key` is a private key of ssh-keygen, or a public key whose private key an SSH agent has. ssh-keygen asks for a
    passphrase on the terminal. The same Ed25519 key and the same bundle give the same signature.

    Raises:
        Failure: ssh-keygen is not installed, or cannot sign with this key.
    """
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE]
    try:
        with packed.open("rb") as content:
            done = subprocess.run(command, stdin=content, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError as missing:
        raise Failure(
            f"{packed.name} is not signed: ssh-keygen is not installed; it is in OpenSSH's client"
        ) from missing
    if done.returncode:
        raise Failure(f"{packed.name} is not signed: ssh-keygen cannot sign with {key}; its message is above")
    target = signature(packed)
    target.write_bytes(done.stdout)
    return target
