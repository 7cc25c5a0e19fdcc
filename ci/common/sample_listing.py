"""The listing that `make up` and `make demo` predict a price for."""

LISTING = {
    "brokered_by": 67455.0,
    "status": "for_sale",
    "bed": 3.0,
    "bath": 2.0,
    "acre_lot": 0.36,
    "street": 1698080.0,
    "city": "Agawam",
    "state": "Massachusetts",
    "zip_code": 1001.0,
    "house_size": 1276.0,
    "prev_sold_date": "2012-10-12",
}
