"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from ci.local import LocalPlatform

# a slow machine is no failure; where CI is set, Hypothesis has a profile of its own, which draws the same every time
settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("patient")


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """Starts parts when they are asked for; all end with the session."""
    with LocalPlatform(tmp_path_factory.mktemp("local")) as platform:
        yield platform
