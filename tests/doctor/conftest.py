"""Records the results of all checks in this session, for the test that compares them with the README."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.doctor.result import FAIL, WARN, Result

SAID: set[tuple[str, str]] = set()  # check and sentence
RAN: set[str] = set()  # files whose tests recorded a result


@pytest.fixture(autouse=True)
def listen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Record every warning and failure of a check."""
    made = Result.__init__

    def init(self: Result, check: str, level: str, what: str, fix: str = "") -> None:
        made(self, check, level, what, fix)
        if level in (WARN, FAIL):
            SAID.add((check, what))
            RAN.add(request.path.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "__init__", init)
        yield
