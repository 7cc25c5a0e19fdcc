"""Version 5: shadow prices of a challenger, and their differences from the champion's prices."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create shadow prices, the view of their differences, and the function that deletes old rows."""
    op.execute(
        """
        create table ledger.shadow_prices (
            at timestamptz not null,                    -- time of the champion's answer
            request_id text not null,                   -- the caller's id, so it may repeat
            position integer not null,                  -- in the list of listings; 0 for a single listing
            champion_version text not null,
            champion_price double precision not null,   -- the price in the answer
            challenger_version text not null,
            challenger_price double precision not null
        );
        create index shadow_prices_request on ledger.shadow_prices (request_id, position);
        create index shadow_prices_at on ledger.shadow_prices using brin (at) with (autosummarize = on);

        create view ledger.shadow_differences as    -- as fractions of the champion's price
        select champion_version, challenger_version,
               count(*) as count,
               min(at) as first_at,
               max(at) as last_at,
               avg(difference) as mean,
               avg(abs(difference)) as mean_absolute,
               percentile_cont(0.5) within group (order by abs(difference)) as median_absolute,
               percentile_cont(0.95) within group (order by abs(difference)) as p95_absolute
        from (select *, challenger_price / champion_price - 1 as difference from ledger.shadow_prices) compared
        group by champion_version, challenger_version;

        -- works as ledger.forget_predictions
        create function ledger.forget_shadow_prices(retention_days integer, most integer) returns integer
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            oldest timestamptz := now() - make_interval(days => retention_days);
            gone integer;
        begin
            if retention_days < 1 then
                raise exception 'compared prices are kept for at least one day, not for %', retention_days;
            end if;
            if not pg_try_advisory_xact_lock(72615006) then
                return 0;
            end if;
            delete from ledger.shadow_prices
                where ctid = any (array(select ctid from ledger.shadow_prices where at < oldest limit most));
            get diagnostics gone = row_count;
            return gone;
        end $$;
        revoke execute on function ledger.forget_shadow_prices from public;
        """
    )
