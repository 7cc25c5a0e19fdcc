"""The library that pipeline and predictor share. It imports none of our other packages.

`listing` has the schema of raw listings, `features` turns listings into numbers, `model` holds the model bundle,
`stores` the object store and MLflow's registry, and `ledger` the history in PostgreSQL.
"""
