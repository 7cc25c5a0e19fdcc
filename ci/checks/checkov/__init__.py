"""Compares the rendered manifests of every environment with Checkov's rules for Kubernetes."""
