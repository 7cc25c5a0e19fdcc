"""A stand-in for the external data API, with the same routes, cursor, end of data and field types.

It imports none of our other packages.
"""
