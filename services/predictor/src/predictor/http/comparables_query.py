"""The query parameters of `GET /comparables`: fields of a listing as text, with the rules of `POST /predict`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from core.listing.schema import MAX_NAME_LENGTH, RANGES
from predictor.pricing.comparables import MAX_SALES
from predictor.pricing.listing import ZIP_PATTERN, Listing, Name, Zip


def _field(name: str) -> Any:
    """The field of a listing with its title. It has no example: the page of the API would send all examples."""
    return Field(None, title=Listing.model_fields[name].title)


def _limits(field: str) -> Any:
    """The constraint of `in_range`, but for numbers as text."""
    least, most = RANGES[field]
    return Field(allow_inf_nan=False, ge=least, le=most)


# A query has texts and no null: a parameter is left out, or empty.
_Unknown = SkipJsonSchema[None]
_Zip = Annotated[Zip, WithJsonSchema({"type": "string", "pattern": ZIP_PATTERN})]
_Name = Annotated[Name, WithJsonSchema({"type": "string", "maxLength": MAX_NAME_LENGTH})]


class ComparablesQuery(BaseModel):
    """The fields of a listing that the choice needs. Leave unknown ones out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    zip_code: _Zip = _field("zip_code")
    city: _Name = _field("city")
    state: _Name = _field("state")
    house_size: Annotated[float, _limits("house_size")] | _Unknown = _field("house_size")
    acre_lot: Annotated[float, _limits("acre_lot")] | _Unknown = _field("acre_lot")
    bed: Annotated[float, _limits("bed")] | _Unknown = _field("bed")
    bath: Annotated[float, _limits("bath")] | _Unknown = _field("bath")
    limit: int = Field(10, ge=1, le=MAX_SALES, description="Number of sales, at most.")
