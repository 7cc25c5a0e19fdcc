"""Shared helpers: output, paths, Git, Go builds, Debian packages, kubectl and manifests. Imports nothing else of ci/."""
