"""Checks files of the checkout, or generates them. Needs no cluster."""
