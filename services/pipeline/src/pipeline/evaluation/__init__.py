"""Compares challenger and champion: scores, the promotion gate, and the verdict that promote and reject carry out."""
