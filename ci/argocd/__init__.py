"""Argo CD on a cluster: build, install, give it this checkout, wait until all is as Git says, remove."""
