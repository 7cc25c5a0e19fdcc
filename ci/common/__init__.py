"""Shared helpers: output, paths, Git, Go builds, Debian packages, kubectl, manifests. Imports nothing else of ci/."""
