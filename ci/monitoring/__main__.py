"""Write the dashboard and the alert rules of charts/monitoring, or check that the committed files are current.

python -m ci.monitoring             write charts/monitoring/files
python -m ci.monitoring --check     fail if a file is out of date
python -m ci.monitoring queries     print every expression of the dashboard as JSON
"""

from __future__ import annotations

import argparse
import json

from ci.common.console import Failure, main, say
from ci.common.paths import CHECKOUT
from ci.monitoring import dashboard_queries
from ci.monitoring.files import FILES, differences, generated, write


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.monitoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["files", "queries"], default="files")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    options = parser.parse_args()
    if options.what == "queries":
        print(json.dumps(dashboard_queries(), indent=2))
    elif options.check:
        if wrong := differences():
            raise Failure(f"Out of date: {', '.join(wrong)}. Run `make docs` and commit the result.")
    else:
        write()
        say(f"wrote {len(generated())} files under {FILES.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main(_main)
