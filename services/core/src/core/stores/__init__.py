"""Clients of the object store and of MLflow's registry, and the layout of the object store."""
