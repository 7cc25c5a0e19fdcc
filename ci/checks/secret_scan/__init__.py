"""Searches the history of the repository for secrets."""
