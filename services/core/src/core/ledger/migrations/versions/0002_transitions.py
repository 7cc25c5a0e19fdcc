"""Version 2: transitions of batches, counts of duplicates, lost calls, and recoveries of lost batches."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Order the states, log their transitions, count duplicates, and log calls without an answer."""
    op.execute(
        """
        create type ledger.batch_state as enum (
            'received',     -- parsed and hashed, not stored yet
            'stored',       -- raw/, unmodified
            'quarantined',  -- as a whole: its rows are not used, its number is a gap
            'validated',    -- each row checked, the bad ones in quarantine/
            'split',        -- clean/, ready for training
            'used'          -- trained on
        );
        alter table ledger.batches
            drop constraint batches_state_check,
            add column duplicates integer,          -- rows that repeat another row of the batch
            alter column state type ledger.batch_state using (
                case when state <> 'decided' then state when valid = 0 then 'quarantined' else 'split' end
            )::ledger.batch_state;
        update ledger.batches set
            duplicates = coalesce((quarantine ->> 'repeated row')::integer, 0),
            quarantined = quarantined - coalesce((quarantine ->> 'repeated row')::integer, 0),
            quarantine = quarantine - 'repeated row'
            where valid is not null;
        update ledger.batches b set state = 'used'
            where state = 'split' and exists (select from ledger.trainings t where b.batch_number = any (t.batches));
        alter table ledger.batches
            add constraint counts_add_up check (rows = valid + quarantined + duplicates);

        create table ledger.transitions (
            id bigint generated always as identity primary key,
            batch_number integer not null,
            sha256 text not null,
            state ledger.batch_state not null,
            run text,                               -- the run that made it; null if not recorded
            at timestamptz not null default now(),
            foreign key (batch_number, sha256) references ledger.batches,
            unique (batch_number, sha256, state)
        );
        insert into ledger.transitions (batch_number, sha256, state, run, at)
            select batch_number, sha256, 'stored'::ledger.batch_state, dag_run, received_at from ledger.batches
            union all
            select batch_number, sha256, state, null, updated_at from ledger.batches where state <> 'stored'
            order by 5;
        alter table ledger.batches drop column dag_run, drop column updated_at;

        alter table ledger.calls
            drop constraint calls_outcome_check,
            add constraint calls_outcome_check
                check (outcome in ('asked', 'batch', 'refused', 'lost', 'end', 'restart')),
            add column run text;

        create table ledger.recoveries (            -- restarts of the data API, to fill gaps
            gaps integer[] primary key,             -- ascending; one restart for each set
            run text not null,
            began_at timestamptz not null default now(),
            restarted_at timestamptz                -- null: it is unknown whether the restart succeeded
        );
        """
    )
