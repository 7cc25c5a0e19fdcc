"""Names of the features and of the target, and the fingerprint of their definition.

Raise `DEFINITION` with every change that alters a feature matrix. The fingerprint changes with it, and a program
refuses a model whose fingerprint differs from its own.
"""

from __future__ import annotations

import hashlib
import json

from core.listing.schema import RAW_SCHEMA

DEFINITION = 4

TARGET = "price"
NUMERIC = ("bed", "bath", "acre_lot", "house_size")
PLAIN = (  # need no fitted encodings
    *NUMERIC,
    "size_per_room",
    "bath_per_bed",
    "lot_coverage",
    "years_since_sale",
    "zip_code",  # as a number: nearby places have similar zip codes
)
FEATURES = (
    *PLAIN,
    "status",  # position in the fitted list of statuses
    "state_premium",  # premiums are in logarithms of the price; each includes those of the wider places around it
    "city_premium",
    "zip_premium",
    "city_rows",
    "zip_rows",
    "broker_premium",
    "broker_rows",
    "hedonic",  # logarithm of the price that the regression predicts
)
CATEGORICAL = ("status",)
BASELINE = "hedonic"  # the trees are trained on the difference between the logarithm of the price and this feature

# For each field of a listing: the columns of `PLAIN` and of `encodings.COLUMNS` that need it.
FIELDS: dict[str, tuple[str, ...]] = {
    "bed": ("bed", "size_per_room", "bath_per_bed"),
    "bath": ("bath", "size_per_room", "bath_per_bed"),
    "acre_lot": ("acre_lot", "lot_coverage"),
    "house_size": ("house_size", "size_per_room", "lot_coverage"),
    "prev_sold_date": ("years_since_sale",),
    "zip_code": ("zip_code",),
    "city": ("city",),
    "state": ("state", "city"),
    "status": ("status",),
    "brokered_by": ("brokered_by",),
}
PLAIN_POSITION = {name: position for position, name in enumerate(PLAIN)}

FINGERPRINT = hashlib.sha256(
    json.dumps([DEFINITION, {name: str(kind) for name, kind in RAW_SCHEMA.items()}, TARGET, FEATURES]).encode()
).hexdigest()[:16]
