"""Shared helpers: output, paths, Git, Go builds, Debian packages and kubectl. Imports nothing else of ci/."""
