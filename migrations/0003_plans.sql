-- An environment determines its lane. With the lane in front, these once were taken for the primary key, in plans made while the
-- tables were empty: to find one job all of its lane was read. The lane is kept for statements that name it.
drop index job_history;
create index job_history on job (environment_id, user_id, device_id, job_id) include (lane);
drop index ready_heads;
create index ready_heads on ready (environment_id, flow, due_at, job_id) include (lane);

-- Ten thousand rows of no lane, each of an environment of its own. `ready` is empty most of the time, and when Postgres last saw it so it takes a look at all of it for
-- the cheapest way to find a job: also once a hundred thousand wait, and while a forgotten transaction keeps all that was ever in it.
insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at, lease_until)
select -1, id, id, 0, 'infinity', 1, 0, 'infinity', 'infinity'
from (select lpad(to_hex(number), 32, '0')::uuid as id from generate_series(1, 10000) as number) numbered;
