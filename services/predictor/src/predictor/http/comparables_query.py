"""The query parameters of `GET /comparables`: fields of a listing as text, with the rules of `POST /predict`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from core.listing.schema import RANGES
from predictor.pricing.comparables import MAX_SALES
from predictor.pricing.listing import Listing, Name, Zip, blank_is_null


def _field(name: str) -> Any:
    """The field of a listing with its title. It has no example: the page of the API would send all examples."""
    return Field(None, title=Listing.model_fields[name].title)


def _in_range(field: str) -> Any:
    """The constraint of `predictor.pricing.listing.in_range`, but for numbers as text."""
    least, most = RANGES[field]
    return Field(allow_inf_nan=False, ge=least, le=most)


_Blank = BeforeValidator(blank_is_null)


class ComparablesQuery(BaseModel):
    """The fields of a listing that the choice needs. Leave unknown ones out; empty values count as unknown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    zip_code: Zip = _field("zip_code")
    city: Name = _field("city")
    state: Name = _field("state")
    house_size: Annotated[Annotated[float, _in_range("house_size")] | None, _Blank] = _field("house_size")
    acre_lot: Annotated[Annotated[float, _in_range("acre_lot")] | None, _Blank] = _field("acre_lot")
    bed: Annotated[Annotated[float, _in_range("bed")] | None, _Blank] = _field("bed")
    bath: Annotated[Annotated[float, _in_range("bath")] | None, _Blank] = _field("bath")
    limit: int = Field(10, ge=1, le=MAX_SALES, description="Number of sales, at most.")
