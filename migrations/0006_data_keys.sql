-- Answers may be encrypted at rest: with data keys, which stand here wrapped by a key that only the configuration holds.

-- One row for each process and day that encrypts. Answers name their key, so a row is never deleted; `keys rewrap` wraps it anew.
create table data_key (
    data_key_id uuid primary key,
    -- The name of the snapshot key.
    wrapped_by  text not null check (char_length(wrapped_by) between 1 and 64),
    -- Nonce, key and tag of AES-256-GCM.
    wrapped     bytea not null check (octet_length(wrapped) = 60),
    created_at  timestamptz not null default now()
);
