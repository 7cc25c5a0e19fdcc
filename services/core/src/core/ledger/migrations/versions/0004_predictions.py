"""Version 4: the prediction log, feedback with true prices, and their retention."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create predictions, feedback, the view of live errors, and the function that deletes old rows."""
    op.execute(
        """
        create table ledger.predictions (
            at timestamptz not null,            -- arrival of the request
            request_id text not null,           -- the caller's id, so it may repeat
            position integer not null,          -- in the list of listings; 0 for a single listing and for a failure
            listing jsonb,                      -- its known fields as sent; for a failure the start of the body
            price double precision,             -- null if the request failed
            low double precision,               -- null if the model has no intervals
            high double precision,
            model_version text,                 -- null if no model was loaded
            status smallint not null,           -- HTTP status
            error text,                         -- reason for the missing price
            seconds double precision not null   -- from the request's body to its prices, for all listings together
        );
        create index predictions_request on ledger.predictions (request_id, position);
        create index predictions_at on ledger.predictions using brin (at) with (autosummarize = on);

        create table ledger.prediction_batches (    -- batches that are stored, so that none is stored twice
            id uuid primary key,
            at timestamptz not null default now()
        );

        create table ledger.feedback (          -- true prices; the last one for a prediction counts
            id bigint generated always as identity primary key,
            request_id text not null,
            position integer not null,
            price double precision not null check (price > 0),
            at timestamptz not null default now()
        );
        create index feedback_request on ledger.feedback (request_id, position, id);

        create view ledger.live_errors as       -- per model version, from the last 100,000 true prices
        select p.model_version,
               count(*) as count,
               avg(abs(p.price - f.price)) as mae,
               percentile_cont(0.5) within group (order by abs(p.price - f.price) / f.price) as median_ape,
               avg((f.price between p.low and p.high)::integer)::double precision as coverage
        from (
            select distinct on (request_id, position) request_id, position, price
            from (select * from ledger.feedback order by id desc limit 100000) latest
            order by request_id, position, id desc
        ) f
        cross join lateral (
            select model_version, price, low, high from ledger.predictions
            where request_id = f.request_id and position = f.position and price is not null
            order by at desc limit 1
        ) p
        group by p.model_version;

        -- Deletes up to `most` predictions that are older than `retention_days` and, once none is left, their feedback.
        -- Returns the number of deleted predictions. One process at a time deletes; others return 0. Runs as the owner,
        -- because the predictor calls it and has no right to delete.
        create function ledger.forget_predictions(retention_days integer, most integer) returns integer
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
        revoke execute on function ledger.forget_predictions from public;
        """
    )
