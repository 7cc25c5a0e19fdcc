"""Checks whether the platform can run on a machine and a cluster. Uses only Python's standard library."""
