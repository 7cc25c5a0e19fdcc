"""Prices beyond their limits in the ledger: new ones are refused, stored ones break no figure and are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from ci.local.processes import LocalPlatform
from core.errors import RefusedRowsError
from core.ledger import Ledger, migrations
from core.listing.schema import RANGES
from tests.services.ledgers import new_ledger

pytestmark = pytest.mark.services

BAD = (1e200, math.nan, math.inf, -math.inf, -1.0, 0.0, 5e-324, 1e308, -1e308)
LEAST, MOST = RANGES["price"]
SHADOW = "insert into ledger.shadow_prices values (now(), 'a', 0, '1', %s, '2', %s)"


def predict(connection: psycopg.Connection, request_id: str, price: float, version: str = "1") -> None:
    connection.execute(
        "insert into ledger.predictions values (now(), %s, 0, '{}', %s, 0.9 * 1000, 2e9, %s, 200, null, 0.001)",
        [request_id, price, version],
    )


def give_feedback(connection: psycopg.Connection, request_id: str, price: float) -> None:
    connection.execute(
        "insert into ledger.feedback (request_id, position, price) values (%s, 0, %s)", [request_id, price]
    )


def without_checks(dsn: str) -> psycopg.Connection:
    """A connection to a ledger that accepts any price, for rows that an earlier release or a person has stored."""
    connection = psycopg.connect(dsn, autocommit=True)
    for name in ("feedback_price_check", "feedback_price_range"):
        connection.execute(f"alter table ledger.feedback drop constraint if exists {name}")
    return connection


def migrate(dsn: str, version: str) -> None:
    """Create the schema of an earlier version in an empty database."""
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=sqlalchemy.NullPool
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("create schema ledger")
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def invalid(ledger: Ledger) -> dict[str, int]:
    return {row["source"]: row["count"] for row in ledger.invalid_prices()}


def test_stored_rows_of_an_earlier_version_are_migrated_left_out_and_counted(local: LocalPlatform) -> None:
    dsn = local.database("invalid_prices_before")
    migrate(dsn, "0005")
    with without_checks(dsn) as connection:
        predict(connection, "good", 100e3)
        give_feedback(connection, "good", 110e3)
        for at, price in enumerate(BAD):
            predict(connection, f"price-{at}", 100e3)
            give_feedback(connection, f"price-{at}", price)
            predict(connection, f"prediction-{at}", price)
            give_feedback(connection, f"prediction-{at}", 100e3)
            connection.execute(SHADOW, [price, 100e3])
            connection.execute(SHADOW, [100e3, price])
        connection.execute(SHADOW, [100e3, 110e3])
        with pytest.raises(psycopg.DataError, match="out of range"):
            connection.execute("select * from ledger.live_errors")
    ledger = Ledger(dsn)
    ledger.ensure_schema()
    assert ledger.live_errors() == [
        {"model_version": "1", "count": 1, "mae": 10e3, "median_ape": 10 / 110, "coverage": 1.0}
    ]
    assert invalid(ledger) == {"feedback": len(BAD), "predictions": len(BAD), "shadow_prices": 2 * len(BAD)}
    with psycopg.connect(dsn) as connection:
        differences = connection.execute("select count, mean from ledger.shadow_differences").fetchall()
    assert differences == [(1, pytest.approx(0.1))]


@pytest.mark.parametrize("price", [*BAD, LEAST - 0.01, MOST + 1.0])
def test_new_true_price_beyond_the_limits_is_refused(local: LocalPlatform, price: float) -> None:
    """The constraint applies to every writer, although it does not check stored rows."""
    dsn = new_ledger(local, f"invalid_prices_{uuid4().hex}")
    ledger = Ledger(dsn)
    with psycopg.connect(dsn) as connection:
        predict(connection, "a", 100e3)
    with pytest.raises(RefusedRowsError, match="violates check constraint"):
        ledger.add_feedback("a", 0, price)
    for limit in RANGES["price"]:
        assert ledger.add_feedback("a", 0, limit), "the limits of the ledger are those of core.listing.schema"
    assert invalid(ledger) == {"feedback": 0, "predictions": 0, "shadow_prices": 0}


def test_last_valid_true_price_counts(local: LocalPlatform) -> None:
    dsn = new_ledger(local, "invalid_prices_last")
    with without_checks(dsn) as connection:
        predict(connection, "a", 100e3)
        for price in (120e3, 1e200):
            give_feedback(connection, "a", price)
    [error] = Ledger(dsn).live_errors()
    assert (error["count"], error["mae"]) == (1, 20e3)


prices = some.sampled_from([*BAD, LEAST, MOST, 1.0]) | some.floats() | some.floats(1, MOST)


@pytest.fixture(scope="module")
def anything(local: LocalPlatform) -> str:
    """A ledger that accepts any price."""
    dsn = new_ledger(local, "invalid_prices_any")
    without_checks(dsn).close()
    return dsn


@given(some.lists(some.tuples(prices, prices), max_size=8))
@example([(price, price) for price in BAD])
@example([(1.0, MOST), (MOST, LEAST)])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_stored_price_breaks_a_view(anything: str, pairs: Sequence[tuple[float, float]]) -> None:
    """Each pair is a predicted price and a true one, and the two prices of a shadow comparison."""
    with psycopg.connect(anything, autocommit=True) as connection:
        connection.execute("truncate ledger.predictions, ledger.feedback, ledger.shadow_prices")
        for at, (predicted, true) in enumerate(pairs):
            predict(connection, str(at), predicted)
            give_feedback(connection, str(at), true)
            connection.execute(SHADOW, [predicted, true])
        differences = connection.execute("select count, mean, p95_absolute from ledger.shadow_differences").fetchall()
    valid = [pair for pair in pairs if 1 <= pair[0] <= MOST and LEAST <= pair[1] <= MOST]
    compared = [pair for pair in pairs if all(1 <= price <= MOST for price in pair)]
    errors = Ledger(anything).live_errors()
    assert sum(row["count"] for row in errors) == len(valid)
    assert all(math.isfinite(row[name]) for row in errors for name in ("mae", "median_ape", "coverage"))
    assert sum(row[0] for row in differences) == len(compared)
    assert all(math.isfinite(figure) for row in differences for figure in row)
    assert invalid(Ledger(anything)) == {
        "feedback": sum(not LEAST <= true <= MOST for _, true in pairs),
        "predictions": sum(not 1 <= predicted <= MOST for predicted, _ in pairs),
        "shadow_prices": len(pairs) - len(compared),
    }
