-- Two roles: one owns the tables and migrates, the other serves and may change rows, no table. Run in the service's own database by whoever
-- may create roles, before the first `migrate` and again after each; it may be run any number of times. It sets no passwords.
do $$
begin
    if not exists (select from pg_roles where rolname = 'unblock_owner') then
        create role unblock_owner login nosuperuser nocreatedb nocreaterole;
    end if;
    if not exists (select from pg_roles where rolname = 'unblock') then
        create role unblock login nosuperuser nocreatedb nocreaterole;
    end if;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to unblock_owner, unblock', current_database());
end
$$;

revoke all on schema public from public;
grant usage, create on schema public to unblock_owner;
grant usage on schema public to unblock;

-- Neither truncate nor references nor trigger: rows alone.
grant select, insert, update, delete on all tables in schema public to unblock;
-- Only a superuser or a member of a role may say what that role's tables are like.
grant unblock_owner to current_user;
alter default privileges for role unblock_owner in schema public grant select, insert, update, delete on tables to unblock;

-- Which version the database is of, only the owner says.
do $$
begin
    if to_regclass('public._sqlx_migrations') is not null then
        revoke insert, update, delete on public._sqlx_migrations from unblock;
    end if;
    -- What was done is only ever added to. What is old goes by a function of the owner's.
    if to_regclass('public.audit') is not null then
        revoke update, delete, truncate on public.audit, public.audit_seal from unblock;
        grant execute on function public.forget_audit to unblock;
    end if;
end
$$;
