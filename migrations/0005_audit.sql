-- The audit trail: who had what done, to whom and why, and how it ended. Written by the statement that does it, so that nothing is
-- done that is not in it.

-- Only ever inserted by the service. What is about a person is packed in `personal`; its digest is what the seal covers, so a
-- person can be erased and the rest still be proven.
create table audit (
    lane            smallint not null check (lane between 0 and 255),
    -- Version 7, its last byte the lane. The request of a job that stands alone has the job's own id.
    event_id        uuid not null,
    -- Of the transaction that did it.
    at              timestamptz not null default now(),
    -- Nothing: all of them, or none that is known.
    environment_id  uuid,
    -- Nothing: of no job, or `event_id` itself.
    job_id          uuid,
    trace_id        uuid,
    run             integer,
    -- Those that cost the job something.
    attempts        integer,
    -- How many calls, rows or entries this stands for, where it is not one.
    count           bigint,
    action          smallint not null,
    -- How a run ended: 3 succeeded, 4 failed, 5 cancelled, 6 expired.
    outcome         smallint,
    http_status     smallint,
    caller          text not null check (caller <> ''),
    -- The version of the policy that allowed it; nothing: the service did it by itself.
    policy          text,
    batch_id        text,
    -- Why, as a name.
    reason          text,
    -- What was called, or why the service did it.
    detail          text,
    correlation_id  text,
    personal_digest bytea check (octet_length(personal_digest) = 32),
    personal        bytea,
    -- What was erased.
    events          uuid[],
    primary key (lane, event_id),
    check (personal is null or personal_digest is not null)
);

-- The chain over it, one for each lane: a seal covers the one before it and the events it names, in this order.
create table audit_seal (
    lane      smallint not null check (lane between 0 and 255),
    number    bigint not null check (number >= 1),
    sealed_at timestamptz not null default now(),
    previous  bytea not null check (octet_length(previous) = 32),
    hash      bytea not null check (octet_length(hash) = 32),
    events    uuid[] not null,
    primary key (lane, number)
);

-- The service may not delete what it has written. This does it in the owner's name: what is sealed and older than `keep_us`
-- microseconds and 30 days, whole seals only, the oldest first, and never the newest. Says how many events went.
do $outer$
begin
    execute format($create$
        create function %1$I.forget_audit(of_lane smallint, keep_us bigint, at_most integer) returns bigint
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
        declare
            before constant timestamptz := now() - greatest(keep_us * interval '1 microsecond', interval '30 days');
            stays bigint;
            old record;
            gone bigint := 0;
            step bigint;
        begin
            select number into stays from %1$I.audit_seal where lane = of_lane order by number desc limit 1;
            for old in
                select number, sealed_at, events from %1$I.audit_seal
                where lane = of_lane and number < stays order by number limit at_most
            loop
                -- What names an event does not prove its age: whoever writes seals could name young ones.
                exit when old.sealed_at >= before or exists (
                    select from unnest(old.events) as e (id)
                    join %1$I.audit a on a.lane = of_lane and a.event_id = e.id
                    where a.at >= before
                );
                delete from %1$I.audit where lane = of_lane and event_id = any(old.events);
                get diagnostics step = row_count;
                gone := gone + step;
                delete from %1$I.audit_seal where lane = of_lane and number = old.number;
            end loop;
            return gone;
        end
        $body$
    $create$, current_schema());
    execute format('revoke all on function %1$I.forget_audit from public', current_schema());
end
$outer$;

-- The id of an event that a statement writes for a job: made of an id that is new with the statement, whose time it has, and of the
-- job's, whose lane it has.
create function audit_event_id(made uuid, job_id uuid) returns uuid
language sql immutable parallel safe
as 'select encode(substring(uuid_send(made) for 8) || substring(uuid_send(job_id) from 9), ''hex'')::uuid';

-- Whoever was given rights in tables to come may only add to these two, and have what is old forgotten.
do $$
declare
    other record;
begin
    for other in
        select distinct a.grantee::regrole as name from pg_class c, aclexplode(c.relacl) a
        where c.oid in ('audit'::regclass, 'audit_seal'::regclass) and a.grantee not in (0, c.relowner)
    loop
        execute format('revoke update, delete, truncate on audit, audit_seal from %s', other.name);
        execute format('grant execute on function forget_audit to %s', other.name);
    end loop;
end
$$;
