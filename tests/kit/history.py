"""Scores of a model and evidence of a decision, as the ledger has them, for the page History."""

from __future__ import annotations

SCORES = {"mae": 33_005.2, "rmse": 40_815.4, "r2": 0.52, "mape": 0.16}
EVIDENCE = {
    "champion": {"version": "1", "rows": 51_000, "mae": 32_000.0, "holdout_mae": 30_000.0},
    "columns": [
        {"column": "price", "psi": 3.1, "ks": 0.4, "unseen": None, "moved": True},
        {"column": "city", "psi": None, "ks": None, "unseen": 0.02, "moved": False},
    ],
    "run_id": "77ab",
}
