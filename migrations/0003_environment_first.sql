-- An environment determines its lane. With the lane in front, these once were taken for the primary key, in plans made while the
-- tables were empty: to find one job all of its lane was read. The lane is kept for statements that name it.
drop index job_history;
create index job_history on job (environment_id, user_id, device_id, job_id) include (lane);
drop index ready_heads;
create index ready_heads on ready (environment_id, flow, due_at, job_id) include (lane);
