"""Traefik, the ingress controller that K3s has, for clusters of `make cluster`, which have none."""
