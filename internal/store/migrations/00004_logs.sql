-- +goose Up

-- What VMs print, a row a line. A line's id is its cursor: the lines of one VM are inserted under its advisory lock,
-- so that they become visible in the order of their ids. There is no foreign key: rows of vms are never deleted, and
-- to check each line would cost more than to store it.
CREATE TABLE vm_logs (
    vm      bigint      NOT NULL,
    id      bigint      GENERATED ALWAYS AS IDENTITY,
    at      timestamptz NOT NULL,
    arrived timestamptz NOT NULL DEFAULT now(),
    event   bytea,
    level   text        NOT NULL DEFAULT '' CHECK (level IN ('', 'debug', 'info', 'warn', 'error')),
    source  text        NOT NULL,
    text    text        NOT NULL,
    PRIMARY KEY (vm, id)
);
-- What a line is known by, in all logs: it is stored once, however often it is sent.
CREATE UNIQUE INDEX vm_logs_event ON vm_logs (event) WHERE event IS NOT NULL;
CREATE INDEX vm_logs_errors ON vm_logs (vm, id) WHERE level = 'error';
CREATE INDEX vm_logs_errors_arrived ON vm_logs (arrived) WHERE level = 'error';

-- What is known of a VM's log without counting. Its row is updated with each batch, in place.
CREATE TABLE vm_log_totals (
    vm      bigint PRIMARY KEY,
    lines   bigint NOT NULL, -- that are stored now
    dropped bigint NOT NULL DEFAULT 0,
    sources text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Batches whose events have no names, by hash: the same again within ten minutes is a repetition.
CREATE TABLE vm_log_batches (
    vm   bigint      NOT NULL,
    hash bytea       NOT NULL,
    at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vm, hash)
);
CREATE INDEX vm_log_batches_at ON vm_log_batches (at);

-- Batches of VMs that are not known (yet), kept aside for a while.
CREATE TABLE log_waiting (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hostname text        NOT NULL,
    hash     bytea       NOT NULL,
    body     bytea       NOT NULL,
    arrived  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX log_waiting_hostname ON log_waiting (hostname, id);

-- +goose Down
DROP TABLE log_waiting, vm_log_batches, vm_log_totals, vm_logs;
