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


def new_ledger(platform: LocalPlatform, name: str) -> str:
    """URL of a new database with this name and the newest schema."""
    return platform.database(name, template=template(platform))
