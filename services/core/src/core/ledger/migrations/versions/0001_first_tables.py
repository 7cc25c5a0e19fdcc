"""Version 1: the tables of the first release. That release created them without a version, so they may exist."""

from alembic import op

revision = "0001"
down_revision = None


TABLES = """
create schema if not exists ledger;
create table if not exists ledger.batches (
    batch_number integer not null,
    sha256 text not null,           -- of the rows, independent of the spelling of their JSON
    state text not null check (state in ('stored', 'validated', 'split', 'decided')),
    rows integer not null,
    valid integer,
    quarantined integer,
    quarantine jsonb,               -- rows per rule
    raw_key text not null,
    dag_run text,                   -- the run that stored it
    received_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (batch_number, sha256)
);
create table if not exists ledger.calls (   -- calls of the data API: a log without a key
    id bigint generated always as identity primary key,
    outcome text not null check (outcome in ('batch', 'lost', 'end')),
    batch_number integer,               -- of the batch that was received
    called_at timestamptz not null default now()
);
create table if not exists ledger.gaps (
    batch_number integer primary key,   -- not received, but a later one was, or its answer was lost
    noticed_at timestamptz not null default now()
);
create table if not exists ledger.decisions (
    batch_number integer not null,
    sha256 text not null,
    decision text not null check (decision in ('train', 'skip')),
    reason text not null,
    evidence jsonb not null,
    decided_at timestamptz not null default now(),
    primary key (batch_number, sha256),
    foreign key (batch_number, sha256) references ledger.batches
);
create table if not exists ledger.trainings (
    run_id text primary key,        -- MLflow run
    batch_number integer not null,  -- the batch that caused the training
    batches integer[] not null,     -- all batches whose rows it used
    rows integer not null,
    code_version text not null,
    metrics jsonb not null,
    trained_at timestamptz not null default now()
);
create table if not exists ledger.promotions (
    run_id text primary key references ledger.trainings,
    version text not null,
    promoted boolean not null,
    reason text not null,
    champion text,                  -- version that it was compared with; null for the first
    metrics jsonb not null,         -- challenger and champion on the common holdout
    decided_at timestamptz not null default now()
);
"""


def upgrade() -> None:
    """Create batches, calls, gaps, decisions, trainings and promotions."""
    op.execute(TABLES)
