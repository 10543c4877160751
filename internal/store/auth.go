package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// Machine is a VM as its credential identifies it.
type Machine struct {
	ID       int64
	Hostname string
}

// MachineByToken returns the live VM to which a token belongs, Unauthenticated
// if there is none.
func (s *Store) MachineByToken(ctx context.Context, hash []byte) (m Machine, err error) {
	err = s.pool.QueryRow(ctx, `SELECT v.id, v.hostname FROM vm_tokens t JOIN vms v ON v.id = t.vm
		WHERE t.hash = $1 AND v.status <> 'destroyed'`, hash).Scan(&m.ID, &m.Hostname)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, errBadToken()
	}
	return m, err
}

func errBadToken() error {
	return fleet.Errorf(fleet.Unauthenticated, "this token is not valid for any VM: register the VM, or give its agent the right token")
}

// MachineByHostname returns a live VM by name, for callers without credential.
func (s *Store) MachineByHostname(ctx context.Context, hostname string) (m Machine, err error) {
	err = s.pool.QueryRow(ctx, `SELECT id, hostname FROM vms WHERE hostname = $1 AND status <> 'destroyed'`, hostname).Scan(&m.ID, &m.Hostname)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, noVM(hostname)
	}
	return m, err
}

const adminPassword = "admin_password_hash"

// Installation returns an id of this database that no other has: what LabLink
// makes outside of it carries the id.
func (s *Store) Installation(ctx context.Context) (id string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT value FROM settings WHERE key = 'installation'`).Scan(&id)
	return id, err
}

// SettleAccount notes in which account of a provider its VMs are, and returns it.
// While there may be machines of VMs, the account that was noted first stands.
func (s *Store) SettleAccount(ctx context.Context, provider, account string) (settled string, err error) {
	err = s.pool.QueryRow(ctx, `
		INSERT INTO settings AS s (key, value) VALUES ('account of ' || $1, $2)
		ON CONFLICT (key) DO UPDATE SET value = CASE WHEN EXISTS (SELECT FROM vms v WHERE v.provider = $1 AND (
				v.creation = 'done' AND NOT EXISTS (SELECT FROM operation_vms ov JOIN operations o ON o.id = ov.operation
					WHERE ov.vm = v.id AND o.kind = 'destroy' AND ov.state = 'done')
				OR v.status <> 'destroyed' AND EXISTS (SELECT FROM operation_vms ov JOIN operations o ON o.id = ov.operation
					WHERE ov.vm = v.id AND o.kind = 'launch' AND o.applied_at IS NOT NULL)))
			THEN s.value ELSE excluded.value END
		RETURNING value`, provider, account).Scan(&settled)
	return settled, err
}

// AdminHash returns the bcrypt hash of the admin's password, "" if none is set.
func (s *Store) AdminHash(ctx context.Context) (hash string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT value FROM settings WHERE key = $1`, adminPassword).Scan(&hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return hash, err
}

// SetAdminHash stores the bcrypt hash of the admin's password.
func (s *Store) SetAdminHash(ctx context.Context, hash string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO settings (key, value) VALUES ($1, $2)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`, adminPassword, hash)
	return err
}

// InitAdminHash stores the hash only if there is none, and reports whether it
// did: of replicas that start together one wins.
func (s *Store) InitAdminHash(ctx context.Context, hash string) (bool, error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`, adminPassword, hash)
	return tag.RowsAffected() == 1, err
}

// TakeAttempt counts an attempt at something that must not be guessed, before
// it is made, so that attempts at once cannot pass together. Beyond limit per
// window it is Limited.
func (s *Store) TakeAttempt(ctx context.Context, subject string, limit int, window time.Duration) error {
	var count int
	var wait float64
	err := s.pool.QueryRow(ctx, `
		INSERT INTO attempts AS a (subject, count, since) VALUES ($1, 1, now())
		ON CONFLICT (subject) DO UPDATE SET
			count = CASE WHEN a.since < now() - make_interval(secs => $2) THEN 1 ELSE a.count + 1 END,
			since = CASE WHEN a.since < now() - make_interval(secs => $2) THEN now() ELSE a.since END
		RETURNING count, extract(epoch FROM since + make_interval(secs => $2) - now())::float8`,
		subject, window.Seconds()).Scan(&count, &wait)
	if err != nil {
		return err
	}
	if count > limit {
		e := fleet.Errorf(fleet.Limited, "Too many wrong attempts. Wait %d minutes and try again.", int(wait/60)+1)
		e.RetryAfter = seconds(wait)
		return e
	}
	return nil
}

// ForgetAttempts starts the count of a subject anew, after a success.
func (s *Store) ForgetAttempts(ctx context.Context, subject string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM attempts WHERE subject = $1`, subject)
	return err
}
