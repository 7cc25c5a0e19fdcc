"""HTTP service that prices houses with the champion model.

Packages depend on each other in one direction: `http` and `batch` -> `record` -> `serving` and `pricing` -> `core`.
`assembly.py` connects them.
"""
