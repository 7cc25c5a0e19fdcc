"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# a slow machine is no failure; where CI is set, Hypothesis has a profile of its own, which draws the same every time
settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("patient")
