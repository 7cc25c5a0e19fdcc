"""What a price request can fail with; `routes.py` maps each to its HTTP status."""

from __future__ import annotations

from typing import Any

from core.errors import HouseError


class NoModelError(HouseError):
    """No model has been loaded yet; the text says why."""


class NotFiniteError(HouseError):
    """The model gives something else than a number as a price."""


class TooLargeError(HouseError):
    """The request holds more listings, or more bytes, than one request may."""


class UnauthorizedError(HouseError):
    """The request has no key, or one that is not known."""


class ForbiddenError(HouseError):
    """Nobody may do this as the service is set up; the text says what to set."""


class InvalidListingError(HouseError):
    """The request is not a listing or a list of them; `errors` names each field and the rule that it breaks."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} invalid values, first: {errors[0]}")
        self.errors = errors
