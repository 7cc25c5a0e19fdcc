"""Values of the Secret with the receivers of alerts, from environment variables or from a file of such lines.

These values are not random, so `make secrets` cannot make them up: somebody sets them once. They are never written to
Git, to values of a chart or to an image, and never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ci.common.console import Failure

SECRET = "alertmanager-receivers"  # noqa: S105 - a name; charts/monitoring has it as alertmanager.receivers.secret
# Environment variable to the key of the Secret. charts/monitoring reads the keys of the enabled receivers.
KEYS = {
    "ALERT_WEBHOOK_URL": "webhook-url",
    "ALERT_SLACK_URL": "slack-url",
    "ALERT_SMTP_PASSWORD": "smtp-password",
    "ALERT_HEARTBEAT_URL": "heartbeat-url",
}
CERTIFICATES = "ALERT_CA_FILE"  # path of a PEM file, whose text becomes the key below
CERTIFICATES_KEY = "ca.crt"
FILE = "ALERT_RECEIVERS_FILE"  # path of a file with lines NAME=value of the variables above


def values(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Keys and values of the Secret that the environment sets; empty if it sets none.

    A variable of the environment wins over the same name in the file.

    Raises:
        Failure: the file has another line than NAME=value, a URL is not one, or a file cannot be read.
    """
    settings = _lines(Path(environment[FILE])) if environment.get(FILE) else {}
    settings |= {name: environment[name] for name in (*KEYS, CERTIFICATES) if environment.get(name)}
    where = f"the environment or {environment[FILE]}" if environment.get(FILE) else "the environment"
    for name, value in settings.items():
        if name.endswith("_URL") and not re.fullmatch(r"https?://[^\s/]+\S*", value):
            raise Failure(f"{name} in {where} is not a URL: set it to https://... (its value is not shown here)")
    secret = {KEYS[name]: value for name, value in settings.items() if name in KEYS}
    if CERTIFICATES in settings:
        secret[CERTIFICATES_KEY] = _read(Path(settings[CERTIFICATES]), CERTIFICATES)
    return secret


def _lines(file: Path) -> dict[str, str]:
    """Variables of a file. Empty lines and lines that begin with # are skipped."""
    settings = {}
    for number, line in enumerate(_read(file, FILE).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or name not in (*KEYS, CERTIFICATES):
            names = ", ".join([*KEYS, CERTIFICATES])
            raise Failure(f"line {number} of {file} is not NAME=value with one of these names: {names}")
        settings[name] = value.strip()
    return settings


def _read(file: Path, variable: str) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as wrong:
        raise Failure(f"{variable} names {file}, which cannot be read ({wrong}): name a text file") from wrong
