-- What the engine needs to pause, to share a licence's rate, to answer two jobs with one request, to read before it repeats, and to
-- say how each environment stands.

alter table environment
    -- An operator's pause.
    add column paused_at     timestamptz,
    add column paused_by     text,
    add column pause_reason  text,
    -- PingOne fails or cannot be reached: since when, why, and when the next real job finds out.
    add column breaker_since    timestamptz,
    add column breaker_error    text,
    add column breaker_retry_at timestamptz,
    -- What PingOne taught, and from when on it climbs again; nothing: the configured rate.
    add column learned_rate  double precision check (learned_rate > 0),
    add column learned_at    timestamptz,
    add check ((paused_at is null) = (paused_by is null) and (paused_at is null) = (pause_reason is null)),
    add check ((breaker_since is null) = (breaker_error is null) and (breaker_since is null) = (breaker_retry_at is null)),
    add check ((learned_rate is null) = (learned_at is null));

-- The emergency stop: one row, of everything, environments not yet seen included.
create table global_pause (
    only_row     boolean primary key default true check (only_row),
    paused_at    timestamptz,
    paused_by    text,
    pause_reason text,
    check ((paused_at is null) = (paused_by is null) and (paused_at is null) = (pause_reason is null))
) with (fillfactor = 50);
insert into global_pause default values;

-- How an environment stands, as its owner said last: once a second while it works. Lost, it is said again.
create table environment_status (
    lane                smallint not null,
    environment_id      uuid not null,
    owner               uuid not null,
    published_at        timestamptz not null default now(),
    -- Nothing: unlimited.
    rate_limit          double precision check (rate_limit > 0),
    effective_rate      double precision check (effective_rate > 0),
    current_rate        double precision not null check (current_rate >= 0),
    in_flight           integer not null check (in_flight >= 0),
    max_in_flight       integer not null check (max_in_flight >= 1),
    limit_group         text,
    pending_interactive bigint not null check (pending_interactive >= 0),
    pending_bulk        bigint not null check (pending_bulk >= 0),
    oldest_due_at       timestamptz,
    primary key (lane, environment_id)
) with (fillfactor = 50);

-- A licence's rate, shared by environments of any lane: the clock its time slots are taken from (microseconds since 1970).
create table limit_group (
    name         text primary key check (char_length(name) between 1 and 100),
    next_slot_us bigint not null default 0,
    hold_until   timestamptz not null default '-infinity',
    learned_rate double precision check (learned_rate > 0),
    learned_at   timestamptz,
    check ((learned_rate is null) = (learned_at is null))
) with (fillfactor = 50);

alter table attempt
    -- The device was only read.
    add column read boolean not null default false,
    drop constraint attempt_pkey,
    add primary key (lane, job_id, run, number, late, read),
    drop constraint attempt_check1,
    add check (late or read or error_reason is not null);

-- Packed: a format byte, then the JSON, plain (0) or compressed (1).
alter table outcome
    drop constraint outcome_device_check,
    alter column device type bytea using '\x00'::bytea || convert_to(device::text, 'UTF8'),
    alter column device set storage main,
    -- Reading showed the device unblocked: nothing had to be sent.
    add column read boolean not null default false,
    -- The job whose request answered this one too.
    add column answered_by uuid;
alter table outcome
    drop constraint outcome_check4,
    add check (state not in (3, 4) or attempt > spared or answered_by is not null);
