"""Prices every listing of a file: `python -m predictor batch`."""
