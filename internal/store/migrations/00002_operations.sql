-- +goose Up

-- While a VM is being created, what it reports of itself is kept aside: it can be given to a participant only when
-- Terraform has vouched for it, and a VM that failed to be created never is.
ALTER TABLE vms
    ADD COLUMN creation      text NOT NULL DEFAULT 'done' CHECK (creation IN ('pending', 'done', 'failed')),
    ADD COLUMN reported      text CHECK (reported IN ('initializing', 'running', 'rebooting', 'error', 'unknown')),
    ADD COLUMN instance_type text NOT NULL DEFAULT '',
    ADD COLUMN machine       text NOT NULL DEFAULT '', -- what the provider calls it
    ADD COLUMN address       text NOT NULL DEFAULT '',
    ADD CONSTRAINT vms_creation CHECK (creation = 'done' OR status <> 'running' AND seat = 'none'),
    ADD CONSTRAINT vms_reported CHECK (reported IS NULL OR creation = 'pending');

-- The numbers in hostnames are never used twice, not even when a row is lost.
CREATE TABLE hostname_numbers (
    prefix text   PRIMARY KEY,
    last   bigint NOT NULL
);

-- A launch or a destroy. Whoever runs it holds the advisory lock of its provider's workspace; attempt tells the
-- runner of now from one that is dead and does not know it yet.
CREATE TABLE operations (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text        NOT NULL CHECK (kind IN ('launch', 'destroy')),
    state         text        NOT NULL DEFAULT 'pending' CHECK (state IN
                      ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    phase         text        NOT NULL DEFAULT '' CHECK (phase IN ('', 'preparing', 'planning', 'applying', 'cleaning')),
    provider      text        NOT NULL,
    instance_type text        NOT NULL DEFAULT '',
    stopping      boolean     NOT NULL DEFAULT false,
    attempt       integer     NOT NULL DEFAULT 0,
    error         text        NOT NULL DEFAULT '',
    actor         text        NOT NULL,
    actor_address text        NOT NULL,
    output_bytes  bigint      NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    applied_at    timestamptz,
    ended_at      timestamptz,
    CONSTRAINT operations_ended CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_at IS NOT NULL)),
    CONSTRAINT operations_phase CHECK (state = 'running' OR phase = '')
);
CREATE INDEX operations_open ON operations (provider, id) WHERE state IN ('pending', 'running');

-- The VMs that an operation is about, and how far each has come.
CREATE TABLE operation_vms (
    operation  bigint NOT NULL REFERENCES operations,
    vm         bigint NOT NULL REFERENCES vms,
    state      text   NOT NULL DEFAULT 'waiting' CHECK (state IN
                   ('waiting', 'planned', 'running', 'done', 'failed', 'cancelled')),
    message    text   NOT NULL DEFAULT '',
    started_at timestamptz,
    ended_at   timestamptz,
    PRIMARY KEY (operation, vm)
);
CREATE INDEX operation_vms_vm ON operation_vms (vm);

-- What Terraform wrote, in pieces of whole lines.
CREATE TABLE operation_output (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation bigint NOT NULL REFERENCES operations,
    lines     text   NOT NULL
);
CREATE INDEX operation_output_operation ON operation_output (operation, id);

-- Machines that exist and that no live row knows.
CREATE TABLE strays (
    provider text        NOT NULL,
    hostname text        NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, hostname)
);

-- Runners and live pages on every replica hear of it. No hostname has a space, so that the word cannot be an id.
-- +goose StatementBegin
CREATE FUNCTION notify_operation_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('lablink_changes', 'operation ' || (to_jsonb(NEW) ->> TG_ARGV[0]));
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER operations_changed AFTER INSERT OR UPDATE OF state, phase, stopping, error ON operations
    FOR EACH ROW EXECUTE FUNCTION notify_operation_change('id');
CREATE TRIGGER operation_vms_changed AFTER UPDATE OF state, message ON operation_vms
    FOR EACH ROW EXECUTE FUNCTION notify_operation_change('operation');

-- +goose Down
DROP TABLE strays, operation_output, operation_vms, operations, hostname_numbers;
DROP FUNCTION notify_operation_change;
ALTER TABLE vms DROP CONSTRAINT vms_creation, DROP CONSTRAINT vms_reported,
    DROP COLUMN creation, DROP COLUMN reported, DROP COLUMN instance_type, DROP COLUMN machine, DROP COLUMN address;
