-- +goose Up

-- Small values that every replica must agree on, such as the hash of the admin's password.
CREATE TABLE settings (
    key   text PRIMARY KEY,
    value text NOT NULL
);

CREATE SEQUENCE seat_ids;
CREATE SEQUENCE delivery_ids;

-- One row per machine that ever was. The columns hostname, useremail, crdcommand and pin are the contract with
-- whoever listens on channel vm_updates; the seat lives in the row of its VM, so that a VM holds at most one.
CREATE TABLE vms (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hostname     text        NOT NULL CHECK (length(hostname) BETWEEN 1 AND 63),
    provider     text        NOT NULL DEFAULT 'registered',
    status       text        NOT NULL DEFAULT 'unknown' CHECK (status IN
                     ('provisioning', 'initializing', 'running', 'rebooting', 'error', 'unknown', 'destroyed')),
    healthy      text        CHECK (healthy IN ('Healthy', 'Unhealthy', 'N/A')),
    inuse        boolean     NOT NULL DEFAULT false,
    useremail    text,
    crdcommand   text,
    pin          text,
    seat         text        NOT NULL DEFAULT 'none' CHECK (seat IN
                     ('none', 'requested', 'delivered', 'connected', 'assumed', 'failed', 'releasing', 'unclean')),
    seat_id      bigint,
    seat_browser bytea,
    seat_reason  text        NOT NULL DEFAULT '',
    seat_since   timestamptz,
    seat_changed timestamptz,
    delivery     bigint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz,
    destroyed_at timestamptz,
    terraform_start  timestamptz, terraform_end  timestamptz, terraform_seconds  double precision,
    cloud_init_start timestamptz, cloud_init_end timestamptz, cloud_init_seconds double precision,
    container_start  timestamptz, container_end  timestamptz, container_seconds  double precision,
    CONSTRAINT vms_seat_held CHECK (
        (seat IN ('requested', 'delivered', 'connected', 'assumed', 'failed'))
        = (useremail IS NOT NULL AND pin IS NOT NULL AND seat_id IS NOT NULL AND seat_since IS NOT NULL)),
    CONSTRAINT vms_seat_code CHECK (seat NOT IN ('requested', 'delivered') OR crdcommand IS NOT NULL),
    CONSTRAINT vms_seat_delivery CHECK (seat NOT IN ('requested', 'delivered', 'releasing') OR delivery IS NOT NULL),
    CONSTRAINT vms_destroyed CHECK ((status = 'destroyed') = (destroyed_at IS NOT NULL)
        AND (status <> 'destroyed' OR seat = 'none'))
);

CREATE UNIQUE INDEX vms_live_hostname ON vms (hostname) WHERE status <> 'destroyed';
CREATE UNIQUE INDEX vms_seat_email ON vms (lower(trim(useremail))) WHERE useremail IS NOT NULL;
-- A browser gets one seat, also when it asks twice in the same instant under two addresses.
CREATE UNIQUE INDEX vms_seat_browser ON vms (seat_browser) WHERE seat_browser IS NOT NULL;
CREATE UNIQUE INDEX vms_seat_id ON vms (seat_id) WHERE seat_id IS NOT NULL;
-- The one definition of free, as an index: a pick reads its first entries, as long as most of the free VMs wait.
CREATE INDEX vms_free ON vms (id)
    WHERE status = 'running' AND seat = 'none' AND healthy IS DISTINCT FROM 'Unhealthy';

-- +goose StatementBegin
CREATE FUNCTION notify_crd_command_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('vm_updates',
        json_build_object('HostName', NEW.hostname, 'CrdCommand', NEW.crdcommand, 'Pin', NEW.pin)::text);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER trigger_crd_command_update AFTER UPDATE OF crdcommand ON vms
    FOR EACH ROW WHEN (NEW.crdcommand IS NOT NULL) EXECUTE FUNCTION notify_crd_command_update();

-- Live pages and polls on every replica hear the id of each VM whose visible state changed, and read the row.
-- +goose StatementBegin
CREATE FUNCTION notify_lablink_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('lablink_changes', NEW.id || ' ' || NEW.hostname);
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER vms_inserted AFTER INSERT ON vms FOR EACH ROW EXECUTE FUNCTION notify_lablink_change();
CREATE TRIGGER vms_changed AFTER UPDATE ON vms FOR EACH ROW
    WHEN ((OLD.status, OLD.healthy, OLD.inuse, OLD.seat, OLD.seat_id, OLD.delivery)
          IS DISTINCT FROM (NEW.status, NEW.healthy, NEW.inuse, NEW.seat, NEW.seat_id, NEW.delivery))
    EXECUTE FUNCTION notify_lablink_change();

-- A VM's credentials. Several may be valid, so that a token can be replaced without a gap.
CREATE TABLE vm_tokens (
    hash       bytea PRIMARY KEY,
    vm         bigint      NOT NULL REFERENCES vms ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vm_tokens_vm ON vm_tokens (vm);

-- Every code that was ever taken, by hash: Google accepts each only once.
CREATE TABLE crd_codes (
    hash    bytea PRIMARY KEY,
    seat_id bigint      NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);

-- The browsers that may see a seat. A row outlives its seat, so that the page can say that the seat has ended.
CREATE TABLE seat_sessions (
    hash       bytea PRIMARY KEY,
    seat_id    bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Attempts at something that must not be guessed.
CREATE TABLE attempts (
    subject text PRIMARY KEY,
    count   integer     NOT NULL,
    since   timestamptz NOT NULL
);

-- Who changed what on which VM, and when.
CREATE TABLE vm_events (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vm      bigint      NOT NULL REFERENCES vms,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor   text        NOT NULL,
    address text        NOT NULL,
    what    text        NOT NULL,
    detail  text        NOT NULL DEFAULT ''
);
CREATE INDEX vm_events_vm ON vm_events (vm, id);

-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd

CREATE TRIGGER vm_events_append_only BEFORE UPDATE OR DELETE ON vm_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER vm_events_no_truncate BEFORE TRUNCATE ON vm_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who waits where. Unlogged: a crash of PostgreSQL empties both tables, and every replica writes its own rows
-- again when it reconnects.
CREATE UNLOGGED TABLE replicas (
    id           bigint PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);
-- The held calls.
CREATE UNLOGGED TABLE polls (
    vm      bigint PRIMARY KEY,
    replica bigint      NOT NULL,
    poll    bigint      NOT NULL,
    since   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX polls_replica ON polls (replica);

-- +goose Down
DROP TABLE polls, replicas, vm_events, attempts, seat_sessions, crd_codes, vm_tokens, vms, settings;
DROP FUNCTION notify_crd_command_update, notify_lablink_change, refuse_change;
DROP SEQUENCE seat_ids, delivery_ids;
