"""Write the dashboards and alert rules of charts/monitoring, or check that the committed ones are current.

python -m ci.monitoring             write charts/monitoring/files
python -m ci.monitoring --check     fail if a file is not what would be written
python -m ci.monitoring queries     print every expression of the dashboard as JSON
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

from ci.console import Failure, main, say
from ci.monitoring import dashboard, dashboard_queries
from ci.monitoring.alerts import ALERTS
from ci.paths import CHECKOUT

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
    """Files of the chart that are missing, not current, or not generated any more."""
    wanted = generated()
    present = {path for folder in ("dashboards", "rules") for path in (FILES / folder).glob("*")}
    wrong = {path for path, text in wanted.items() if path not in present or path.read_text() != text}
    return sorted(str(path.relative_to(CHECKOUT)) for path in wrong | (present - wanted.keys()))


def write() -> None:
    """Make the chart's files what the code says; files that it no longer says are removed."""
    wanted = generated()
    for folder in ("dashboards", "rules"):
        (FILES / folder).mkdir(parents=True, exist_ok=True)
        for path in (FILES / folder).glob("*"):
            if path not in wanted:
                path.unlink()
    for path, text in wanted.items():
        path.write_text(text)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.monitoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["files", "queries"], default="files")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args()
    if options.what == "queries":
        print(json.dumps(dashboard_queries(), indent=2))
    elif options.check:
        if wrong := differences():
            raise Failure(f"not current: {', '.join(wrong)}; run `make docs` and commit the result")
    else:
        write()
        say(f"wrote {len(generated())} files under {FILES.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main(_main)
