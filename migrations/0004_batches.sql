-- Batches: what was uploaded, row by row, and how far each has come.

-- A batch's jobs wait in flows of its own: its number for the canary, the next for the rest.
alter table job add column flow bigint check (flow > 1);

create table batch (
    lane              smallint not null,
    number            bigint not null check (number > 1 and number % 2 = 0),
    environment_id    uuid not null,
    batch_id          text not null check (char_length(batch_id) between 1 and 128),
    caller            text not null check (caller <> ''),
    reason            text not null check (char_length(reason) <= 500),
    ticket            text not null check (char_length(ticket) <= 100),
    on_behalf_of      text not null check (char_length(on_behalf_of) <= 200),
    created_at        timestamptz not null default now(),
    expires_at        timestamptz not null check (expires_at > created_at),
    time_to_live_us   bigint not null check (time_to_live_us > 0),
    trace_parent      text,
    -- 0: never pauses by itself.
    max_failure_ratio double precision not null check (max_failure_ratio between 0 and 1),
    -- 0: no trial.
    canary_count      integer not null check (canary_count >= 0),
    canary_passed     boolean not null default false,
    start_when_sealed boolean not null,
    -- The stream that may write: the newest.
    upload            bigint not null default 1,
    uploaded_at       timestamptz not null default now(),
    next_offset       bigint not null default 0 check (next_offset >= 0),
    sealed            boolean not null default false,
    -- 1 uploading, 2 running, 3 paused, 4 done, 5 cancelled, 6 cancelling
    state             smallint not null check (state between 1 and 6),
    state_reason      text not null default '',
    -- By its canary or its failure ratio.
    paused_by_itself  boolean not null default false,
    completed_at      timestamptz,
    -- Rises with every change that no completion made: whoever judges the batch writes only what is still so.
    revision          bigint not null default 1,
    -- What had finished and failed when it was last resumed: the failure ratio is of what came since.
    finished_before   bigint not null default 0,
    failed_before     bigint not null default 0,
    -- Without what stands in batch_delta still.
    jobs              bigint not null default 0,
    rejected          bigint not null default 0,
    duplicate         bigint not null default 0,
    expanded          bigint not null default 0,
    looked_up         bigint not null default 0,
    succeeded         bigint not null default 0,
    failed            bigint not null default 0,
    cancelled         bigint not null default 0,
    expired           bigint not null default 0,
    -- Finished per second and at PingOne now, as its owner said last.
    current_rate      double precision not null default 0,
    running           integer not null default 0,
    published_at      timestamptz,
    primary key (lane, number),
    check ((state in (4, 5)) = (completed_at is not null))
) with (fillfactor = 50);
-- The environment first, as everywhere: see ready_heads.
create unique index batch_name on batch (environment_id, batch_id, lane);
create index batch_open on batch (lane, number) where completed_at is null;

-- One row of a batch; of a row by user, one for each of its devices besides. Written once.
create table batch_target (
    lane             smallint not null,
    number           bigint not null,
    target_offset    bigint not null check (target_offset >= 0),
    -- 0: the row itself
    sub              integer not null check (sub >= 0),
    user_id          uuid,
    -- Nothing: every blocked device of the user.
    device_id        uuid,
    client_reference text not null check (char_length(client_reference) <= 100),
    -- Of a duplicate, that of the earlier row.
    job_id           uuid,
    duplicate        boolean not null default false,
    -- Refused by itself: why, and what was given instead of ids.
    rejection        text,
    message          text,
    given_user       text,
    given_device     text,
    primary key (lane, number, target_offset, sub),
    check ((job_id is null) = (rejection is not null)),
    check ((rejection is null) = (message is null))
);

-- Rows by user, by the job that looks the user's devices up.
create index batch_lookup on batch_target (lane, job_id) where device_id is null;

-- What changed in a batch's counts: appended by whoever changed it, folded into the batch by its owner.
create table batch_delta (
    lane      smallint not null,
    number    bigint not null,
    delta_id  uuid not null,
    jobs      integer not null default 0,
    rejected  integer not null default 0,
    duplicate integer not null default 0,
    expanded  integer not null default 0,
    looked_up integer not null default 0,
    succeeded integer not null default 0,
    failed    integer not null default 0,
    cancelled integer not null default 0,
    expired   integer not null default 0,
    primary key (lane, number, delta_id)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
