"""The generated files of charts/monitoring: dashboard and alert rules."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from ci.common.paths import CHECKOUT
from ci.monitoring import dashboard
from ci.monitoring.alerts import ALERTS

FILES = CHECKOUT / "charts" / "monitoring" / "files"
GENERATED = "# Written by `make docs` from ci/monitoring/alerts.py; do not edit.\n"


def generated() -> dict[Path, str]:
    """Content of every generated file, by its path."""
    files = {FILES / "dashboards" / f"{dashboard.UID}.json": json.dumps(dashboard.build(), indent=2) + "\n"}
    for alert in ALERTS:
        text = yaml.safe_dump(alert.rules(), sort_keys=False, width=120)
        files[FILES / "rules" / f"{alert.name}.yaml"] = GENERATED + text
    return files


def differences() -> list[str]:
    """Generated files of the chart that are missing, out of date, or no longer generated."""
    wanted = generated()
    present = {path for folder in ("dashboards", "rules") for path in (FILES / folder).glob("*")}
    wrong = {path for path, text in wanted.items() if path not in present or path.read_text() != text}
    return sorted(str(path.relative_to(CHECKOUT)) for path in wrong | (present - wanted.keys()))


def write() -> None:
    """Write the generated files. Delete those that earlier versions generated and this one does not."""
    wanted = generated()
    for folder in ("dashboards", "rules"):
        (FILES / folder).mkdir(parents=True, exist_ok=True)
        for path in (FILES / folder).glob("*"):
            if path not in wanted:
                path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
