"""Delivers the platform with Argo CD: builds and installs it, serves this checkout to it, and waits for syncs."""
