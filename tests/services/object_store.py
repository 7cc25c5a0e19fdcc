"""A MinIO server on this machine with the buckets and users of the chart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform, MinioServer

PROVISION = CHECKOUT / "charts" / "minio" / "files" / "provision.py"


@dataclass(frozen=True)
class Provisioned:
    """A MinIO server after the chart's Job: the buckets of `charts/minio/values.yaml`, each with a user."""

    server: MinioServer
    keys: dict[str, tuple[str, str]]  # by user
    provision: Callable[..., str]  # runs the Job's program again, with changed variables, and returns its output


def provisioned(platform: LocalPlatform) -> Provisioned:
    """Start the MinIO server of a platform, and run the chart's Job."""
    buckets = yaml.safe_load((CHECKOUT / "charts" / "minio" / "values.yaml").read_text())["buckets"]
    server = platform.start_minio()
    keys = {bucket["user"]: (f"{bucket['user']}-key", f"{bucket['user']}-secret") for bucket in buckets.values()}
    env = {
        "S3_ENDPOINT": server.endpoint,
        "BUCKETS": json.dumps(buckets),
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
    }
    for user, (access, secret) in keys.items():
        env |= {f"{user.upper()}_ACCESS_KEY": access, f"{user.upper()}_SECRET_KEY": secret}

    def provision(**changes: str) -> str:
        done = subprocess.run(
            [sys.executable, str(PROVISION)], env={**os.environ, **env, **changes}, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    provision()
    return Provisioned(server, keys, provision)
