-- +goose Up

-- What a fleet in a cloud is tagged with: which of several databases has made it.
INSERT INTO settings (key, value) VALUES ('installation', gen_random_uuid());

-- Why a VM says that it is in error, in its own words.
ALTER TABLE vms ADD COLUMN problem text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vms DROP COLUMN problem;
DELETE FROM settings WHERE key = 'installation';
