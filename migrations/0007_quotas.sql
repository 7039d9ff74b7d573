-- What callers may have unblocked, and how often one device may be: counted in the statement that records the job, so that no bound
-- is exceeded by one. Each row keeps the bound it was counted against last, and a constraint holds it to that.

-- How many unblocks a caller has had recorded. Its lane is of SHA-256 of its name.
create table caller_use (
    lane     smallint not null check (lane between 0 and 255),
    caller   text not null check (caller <> ''),
    -- The hour that in_hour counts; of the day, UTC's.
    hour     timestamptz not null,
    in_hour  integer not null check (in_hour >= 0),
    per_hour integer,
    day      timestamptz not null,
    in_day   integer not null check (in_day >= 0),
    per_day  integer,
    primary key (lane, caller),
    constraint caller_use_hour check (in_hour <= per_hour),
    constraint caller_use_day check (in_day <= per_day)
) with (fillfactor = 50);

-- When a device was had unblocked, by anyone: newest first, not older than a week.
create table device_use (
    lane           smallint not null,
    -- At most so many within any so many seconds.
    most           smallint not null check (most >= 0),
    within_s       integer not null check (within_s > 0),
    environment_id uuid not null,
    device_id      uuid not null,
    used_at        timestamptz[] not null,
    primary key (lane, environment_id, device_id),
    -- Beyond the end of the list is nothing, which is no breach.
    constraint device_use_within check (used_at[most + 1] <= used_at[1] - within_s * interval '1 second')
) with (fillfactor = 90);

-- Devices found for a row by user are bounded as the upload of the row was.
alter table batch
    add column device_most     smallint check (device_most >= 0),
    add column device_within_s integer check (device_within_s > 0),
    add check ((device_most is null) = (device_within_s is null));
