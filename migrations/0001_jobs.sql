-- The queue: an append-only ledger of jobs and what became of them, one slim hot row per unfinished job, and who schedules what.
--
-- `lane` (the lowest byte of SHA-256 of the environment id) leads every key. Portable on purpose: no triggers, sequences or
-- foreign keys; what must be true of one row is a constraint, what must be true between rows is one statement or transaction.

-- What may never change once there are rows. Checked at every start.
create table fixed_setting (
    name  text primary key,
    value text not null
);
insert into fixed_setting (name, value) values ('lanes', '256');

-- One process of this service, alive until lease_until.
create table replica (
    replica_id  uuid primary key,
    role        text not null check (role in ('all', 'api', 'worker')),
    version     text not null,
    started_at  timestamptz not null default now(),
    lease_until timestamptz not null
) with (fillfactor = 50);

-- Which replica schedules a lane; changes only on hand-over.
create table lane (
    lane  smallint primary key check (lane between 0 and 255),
    owner uuid
) with (fillfactor = 50);
insert into lane (lane) select generate_series(0, 255);

-- What all replicas must know of a PingOne environment.
create table environment (
    lane                smallint not null check (lane between 0 and 255),
    environment_id      uuid not null,
    -- PingOne asked to send nothing before.
    hold_until          timestamptz not null default '-infinity',
    -- PingOne refuses the credential: why, and when it is tried again.
    credential_error    text,
    credential_retry_at timestamptz,
    primary key (lane, environment_id),
    check ((credential_error is null) = (credential_retry_at is null))
) with (fillfactor = 50);

-- A request to unblock one device. Written once, never updated.
create table job (
    lane           smallint not null check (lane between 0 and 255),
    job_id         uuid not null,
    environment_id uuid not null,
    user_id        uuid not null,
    device_id      uuid not null,
    caller         text not null check (caller <> ''),
    request_id     text check (char_length(request_id) between 1 and 128),
    reason         text not null check (char_length(reason) <= 500),
    ticket         text not null check (char_length(ticket) <= 100),
    on_behalf_of   text not null check (char_length(on_behalf_of) <= 200),
    -- 1 interactive, 2 bulk
    priority       smallint not null check (priority in (1, 2)),
    created_at     timestamptz not null,
    expires_at     timestamptz not null check (expires_at > created_at),
    trace_parent   text,
    primary key (lane, job_id)
);
create unique index job_request on job (lane, environment_id, caller, request_id) where request_id is not null;
create index job_history on job (lane, environment_id, user_id, device_id, job_id);

-- A redrive: run n of a job, from 2 on. Written once.
create table redrive (
    lane         smallint not null,
    job_id       uuid not null,
    run          integer not null check (run >= 2),
    caller       text not null check (caller <> ''),
    reason       text not null check (char_length(reason) <= 500),
    ticket       text not null check (char_length(ticket) <= 100),
    requested_at timestamptz not null default now(),
    expires_at   timestamptz not null check (expires_at > requested_at),
    primary key (lane, job_id, run)
);

-- Who asked for the end of a run. Written once: later cancels of the same run find it.
create table cancellation (
    lane         smallint not null,
    job_id       uuid not null,
    run          integer not null check (run >= 1),
    caller       text not null check (caller <> ''),
    reason       text not null check (char_length(reason) <= 500),
    requested_at timestamptz not null default now(),
    primary key (lane, job_id, run)
);

-- An unfinished job: at most one row, gone at the end. Claims touch lease_until and attempt alone, which no index holds, so a
-- claim is a HOT update.
create table ready (
    lane             smallint not null,
    job_id           uuid not null,
    environment_id   uuid not null,
    -- 0 interactive, 1 bulk
    flow             bigint not null check (flow >= 0),
    due_at           timestamptz not null,
    run              integer not null check (run >= 1),
    -- Claims of this run so far: the fence of every later write.
    attempt          integer not null check (attempt >= 0),
    -- Those of them that cost the job nothing.
    spared           integer not null default 0 check (spared between 0 and attempt),
    expires_at       timestamptz not null,
    -- An attempt runs until then; -infinity when none does.
    lease_until      timestamptz not null default '-infinity',
    cancel_requested boolean not null default false,
    primary key (lane, job_id)
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 5000
);
create index ready_heads on ready (lane, environment_id, flow, due_at, job_id);

-- How a run ended. Written once.
create table outcome (
    lane           smallint not null,
    job_id         uuid not null,
    run            integer not null check (run >= 1),
    -- 3 succeeded, 4 failed, 5 cancelled, 6 expired
    state          smallint not null check (state between 3 and 6),
    attempt        integer not null check (attempt >= 0),
    spared         integer not null check (spared between 0 and attempt),
    completed_at   timestamptz not null default now(),
    -- PingOne's answer to the attempt that succeeded; why the others failed stands in attempt.
    started_at     timestamptz,
    duration_us    bigint check (duration_us >= 0),
    http_status    smallint,
    correlation_id text,
    device         jsonb check (jsonb_typeof(device) = 'object'),
    device_at      timestamptz,
    primary key (lane, job_id, run),
    check (state <> 3 or (started_at is not null and duration_us is not null and http_status is not null)),
    check ((state = 3) = (device is not null)),
    check ((state = 3) = (device_at is not null)),
    check (state not in (3, 4) or attempt > spared)
);

-- A request to PingOne that did not end its job well. Written once.
create table attempt (
    lane           smallint not null,
    job_id         uuid not null,
    run            integer not null check (run >= 1),
    number         integer not null check (number >= 1),
    -- Its answer came after the attempt had been superseded: it changed nothing.
    late           boolean not null default false,
    started_at     timestamptz not null,
    duration_us    bigint not null check (duration_us >= 0),
    recorded_at    timestamptz not null default now(),
    -- Unset when PingOne confirmed the unblock, which only a late answer can do here.
    error_reason   text,
    error_message  text,
    http_status    smallint,
    pingone_code   text,
    pingone_id     text,
    correlation_id text,
    primary key (lane, job_id, run, number, late),
    check ((error_reason is null) = (error_message is null)),
    check (late or error_reason is not null)
);
