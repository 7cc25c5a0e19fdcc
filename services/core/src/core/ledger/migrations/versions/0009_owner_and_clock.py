"""Version 9: the owner of the ledger, and retention that compares clocks and limits the bytes of the prediction log."""

from alembic import op

revision = "0009"
down_revision = "0008"

# A longer pause between two deletions means that the platform was off, that the ledger was restored, or that the clock
# is wrong. Only a person can tell which.
PAUSE = "7 days"


def upgrade() -> None:
    """Create the owner and the clock. Both functions that delete old rows refuse after a jump of the clock."""
    op.execute(
        f"""
        create table ledger.platform (      -- one row once a platform has claimed the ledger
            one boolean primary key default true check (one),
            id uuid not null default gen_random_uuid(),     -- its copy in the object store is layout.PLATFORM
            name text not null,             -- setting PLATFORM_NAME
            claimed_at timestamptz not null default now()
        );

        create table ledger.retention_clock (   -- one row
            one boolean primary key default true check (one),
            seen_at timestamptz not null        -- the database's clock at the last deletion of old rows
        );
        insert into ledger.retention_clock (seen_at) values (now());

        -- Raises an error if the clock is far ahead of the last deletion: a clock that
        -- jumps forward makes all rows old.
        create function ledger.check_retention_clock() returns void
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            seen timestamptz := (select seen_at from ledger.retention_clock);
        begin
            if now() - seen > interval '{PAUSE}' then
                raise exception 'the database''s clock reads %, and old rows were last deleted at %. Nothing was'
                    ' deleted, because the clock may be wrong. If it is right, run this as the owner of the ledger:'
                    ' update ledger.retention_clock set seen_at = now()',
                    to_char(now(), 'YYYY-MM-DD HH24:MI'), to_char(seen, 'YYYY-MM-DD HH24:MI');
            end if;
            -- another process that deletes at the same time has set it
            update ledger.retention_clock set seen_at = now()
                where (select true from ledger.retention_clock for update skip locked);
        end $$;
        revoke execute on function ledger.check_retention_clock from public;

        -- as in version 4, with the check of the clock
        create or replace function ledger.forget_predictions(retention_days integer, most integer) returns integer
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            oldest timestamptz := now() - make_interval(days => retention_days);
            gone integer;
        begin
            if retention_days < 1 then
                raise exception 'predictions are kept for at least one day, not for %', retention_days;
            end if;
            if not pg_try_advisory_xact_lock(72615005) then
                return 0;
            end if;
            perform ledger.check_retention_clock();
            delete from ledger.predictions
                where ctid = any (array(select ctid from ledger.predictions where at < oldest limit most));
            get diagnostics gone = row_count;
            if gone < most then
                delete from ledger.feedback f where not exists (
                    select from ledger.predictions p
                    where p.request_id = f.request_id and p.position = f.position
                );
                delete from ledger.prediction_batches where at < oldest;
            end if;
            return gone;
        end $$;

        -- as in version 5, with the check of the clock
        create or replace function ledger.forget_shadow_prices(retention_days integer, most integer) returns integer
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
            perform ledger.check_retention_clock();
            delete from ledger.shadow_prices
                where ctid = any (array(select ctid from ledger.shadow_prices where at < oldest limit most));
            get diagnostics gone = row_count;
            return gone;
        end $$;

        -- Deletes up to `most` of the oldest predictions while the log has more than `max_bytes`, and returns their
        -- number. Does not depend on the clock. The bytes are those of rows and their index entries, from PostgreSQL's
        -- count of live rows and a sample of 10,000 rows: the files also have free space, which new rows use again.
        create function ledger.forget_predictions_beyond(max_bytes bigint, most integer) returns integer
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            live bigint := pg_stat_get_live_tuples('ledger.predictions'::regclass);
            share real := least(100, 1000000.0 / greatest(live, 1));    -- percent of the pages
            excess bigint;
            oldest timestamptz;
            gone integer;
        begin
            if max_bytes < 1048576 then
                raise exception 'the prediction log needs at least 1 MiB, not % bytes', max_bytes;
            end if;
            if not pg_try_advisory_xact_lock(72615005) then
                return 0;
            end if;
            select live - max_bytes / (avg(pg_column_size(p.*)) + 64) into excess
                from ledger.predictions p tablesample system (share);
            if excess is null or excess <= 0 then   -- null: the sample or the table is empty
                return 0;
            end if;
            select percentile_disc(least(1, excess::double precision / live)) within group (order by at) into oldest
                from ledger.predictions tablesample system (share);
            delete from ledger.predictions where ctid = any (array(
                select ctid from ledger.predictions where at <= oldest limit least(most, excess)
            ));
            get diagnostics gone = row_count;
            return gone;
        end $$;
        revoke execute on function ledger.forget_predictions_beyond from public;
        """  # noqa: S608 - constant
    )
