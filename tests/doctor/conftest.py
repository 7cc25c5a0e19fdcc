"""What the checks said in the tests of this session, for the one that compares it with the README."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ci.doctor.result import FAIL, WARN, Result

SAID: set[tuple[str, str]] = set()  # check and sentence
RAN: set[str] = set()  # files whose tests said something


@pytest.fixture(autouse=True)
def listen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write down every warning and failure that a check makes of a fault."""
    made = Result.__init__

    def init(self: Result, check: str, level: str, what: str, mend: str = "") -> None:
        made(self, check, level, what, mend)
        if level in (WARN, FAIL):
            SAID.add((check, what))
            RAN.add(request.path.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Result, "__init__", init)
        yield
