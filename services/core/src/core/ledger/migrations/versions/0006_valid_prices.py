"""Version 6: prices have limits. Views leave out prices beyond them, so that one bad row cannot break a sum.

The limits of a true price are those of `core.listing.schema` at the time of this version; a test compares them.
Stored rows stay as they are, because `not valid` checks new rows only. Building the indexes reads the tables once and
blocks writes to them meanwhile; the prediction log waits on disk.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

# A comparison with NaN is false here, because PostgreSQL orders it above all numbers.
TRUE_PRICE = "price between 1000 and 1000000000"
# A poor model may predict less than any house costs. Its error counts nevertheless.
PREDICTED_PRICE = "price between 1 and 1000000000"
SHADOW_PRICES = "champion_price between 1 and 1000000000 and challenger_price between 1 and 1000000000"


def upgrade() -> None:
    """Add the check of true prices, the views that leave out invalid prices, and the view that counts them."""
    op.execute(
        f"""
        alter table ledger.feedback add constraint feedback_price_range check ({TRUE_PRICE}) not valid;

        -- small indexes of the invalid rows only: counting them must not read whole tables
        create index feedback_invalid on ledger.feedback (id) where not ({TRUE_PRICE});
        create index predictions_invalid on ledger.predictions (at) where not ({PREDICTED_PRICE});
        create index shadow_prices_invalid on ledger.shadow_prices (at) where not ({SHADOW_PRICES});

        create view ledger.invalid_prices as    -- rows that the other views leave out
        select 'feedback' as source, count(*) as count from ledger.feedback where not ({TRUE_PRICE})
        union all
        select 'predictions', count(*) from ledger.predictions where not ({PREDICTED_PRICE})
        union all
        select 'shadow_prices', count(*) from ledger.shadow_prices where not ({SHADOW_PRICES});

        create or replace view ledger.live_errors as    -- per model version, from the last 100,000 valid true prices
        select p.model_version,
               count(*) as count,
               avg(abs(p.price - f.price)) as mae,
               percentile_cont(0.5) within group (order by abs(p.price - f.price) / f.price) as median_ape,
               avg((f.price between p.low and p.high)::integer)::double precision as coverage
        from (
            select distinct on (request_id, position) request_id, position, price
            from (select * from ledger.feedback where {TRUE_PRICE} order by id desc limit 100000) latest
            order by request_id, position, id desc
        ) f
        cross join lateral (
            select model_version, price, low, high from ledger.predictions
            where request_id = f.request_id and position = f.position and price is not null
            order by at desc limit 1
        ) p
        where p.{PREDICTED_PRICE}
        group by p.model_version;

        create or replace view ledger.shadow_differences as     -- as fractions of the champion's price
        select champion_version, challenger_version,
               count(*) as count,
               min(at) as first_at,
               max(at) as last_at,
               avg(difference) as mean,
               avg(abs(difference)) as mean_absolute,
               percentile_cont(0.5) within group (order by abs(difference)) as median_absolute,
               percentile_cont(0.95) within group (order by abs(difference)) as p95_absolute
        from (
            select *, challenger_price / champion_price - 1 as difference from ledger.shadow_prices
            where {SHADOW_PRICES}
        ) compared
        group by champion_version, challenger_version;
        """  # noqa: S608 - constants
    )
