"""Databases with the newest schema for tests. One database per server is migrated, and the others are copies of it."""

from __future__ import annotations

from functools import cache

from ci.local.processes import LocalPlatform
from core.ledger import Ledger


@cache
def template(platform: LocalPlatform) -> str:
    """Name of a database with the newest schema and no rows. Do not connect to it, or PostgreSQL cannot copy it."""
    name = "ledger_template"
    Ledger(platform.database(name)).ensure_schema()
    return name


def trust_as_champion(dsn: str, version: str, sha256: str) -> None:
    """Record a bundle as a promotion does, so that predictors may serve it."""
    Ledger(dsn).add_move(version, None, "promotion", "test", sha256)


def trust_as_trained(dsn: str, version: str, sha256: str) -> None:
    """Record a bundle as a training does, so that predictors may compare it in the shadow."""
    Ledger(dsn).add_training(f"run-{version}", 0, [], 1, "test", {}, sha256)


def new_ledger(platform: LocalPlatform, name: str) -> str:
    """URL of a new database with this name and the newest schema."""
    return platform.database(name, template=template(platform))
