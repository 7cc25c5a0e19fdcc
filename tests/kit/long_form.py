"""Whether tests run in their long form, as in `make nightly`, or in the short form of CI."""

import os

LONG = os.environ.get("HOUSE_LONG") == "1"
