"""Installs the platform on an existing cluster and operates it: Secrets, charts, releases, pipeline runs."""
