package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// ErrClaimLost says that another runner has the operation now: this one must
// stop, and change nothing more.
var ErrClaimLost = errors.New("another runner has this operation")

// Workspace is the exclusive right to run the operations of one provider. It is
// an advisory lock of a connection of its own: when the process or the
// connection dies, the next runner gets it at once.
type Workspace struct {
	store    *Store
	conn     *pgx.Conn
	provider string
}

// LockWorkspace returns nil if another runner has the workspace.
func (s *Store) LockWorkspace(ctx context.Context, provider string) (*Workspace, error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	w := &Workspace{s, conn, provider}
	var ours bool
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext('lablink.workspace'), hashtext($1))`, provider).Scan(&ours)
	if err != nil || !ours {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Check reports an error if the right may be lost.
func (w *Workspace) Check(ctx context.Context) error { return w.conn.Ping(ctx) }

// Close gives the workspace up.
func (w *Workspace) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// A session ends some time after its connection. Whoever comes next should not have to wait for that.
	_, _ = w.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	_ = w.conn.Close(ctx) // the server notices by itself, too
}

// OpenOperations reports whether any operation of a provider waits for a runner,
// or lost its own.
func (s *Store) OpenOperations(ctx context.Context, provider string) (open bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM operations WHERE provider = $1 AND state IN ('pending', 'running'))`, provider).Scan(&open)
	return open, err
}

// Claim is an operation in the hands of one runner. Its methods return
// ErrClaimLost, and change nothing, when another one has taken it over.
type Claim struct {
	store *Store
	fleet.Operation
}

// Claim takes the next operation: one whose runner died before one that waits.
// It returns nil if there is none. It is done on the connection that holds the
// lock: who has lost that takes nothing. One that is locked for a moment, by who
// stops it, keeps its turn.
func (w *Workspace) Claim(ctx context.Context) (*Claim, error) {
	var id int64
	err := w.conn.QueryRow(ctx, `
		UPDATE operations SET state = 'running', phase = 'preparing', attempt = attempt + 1, started_at = coalesce(started_at, now())
		WHERE id = (SELECT id FROM operations WHERE provider = $1 AND state IN ('pending', 'running')
			ORDER BY state = 'running' DESC, id LIMIT 1 FOR UPDATE)
		RETURNING id`, w.provider).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	if err != nil {
		return nil, err
	}
	op, err := w.store.Operation(ctx, id)
	return &Claim{w.store, op}, err
}

// hold runs f in a transaction in which the claim stands.
func (c *Claim) hold(ctx context.Context, f func(tx pgx.Tx) error) error {
	return c.store.transact(ctx, func(tx pgx.Tx) error {
		var held bool
		err := tx.QueryRow(ctx, `SELECT true FROM operations WHERE id = $1 AND attempt = $2 AND state = 'running' FOR UPDATE`,
			c.ID, c.Attempt).Scan(&held)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrClaimLost
		}
		if err != nil {
			return err
		}
		return f(tx)
	})
}

// exec is hold with one statement, whose $1 is the operation.
func (c *Claim) exec(ctx context.Context, sql string, args ...any) error {
	return c.hold(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, append([]any{c.ID}, args...)...)
		return err
	})
}

// StopAsked reports whether an admin asked for the operation to stop.
func (c *Claim) StopAsked(ctx context.Context) (stopping bool, err error) {
	err = c.store.pool.QueryRow(ctx, `SELECT stopping FROM operations WHERE id = $1 AND attempt = $2`, c.ID, c.Attempt).Scan(&stopping)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, ErrClaimLost
	}
	return stopping, err
}

// Enter notes the phase.
func (c *Claim) Enter(ctx context.Context, p fleet.Phase) error {
	return c.exec(ctx, `UPDATE operations SET phase = $2,
		applied_at = CASE WHEN $2 = 'applying' THEN coalesce(applied_at, now()) ELSE applied_at END WHERE id = $1`, p)
}

// Targets returns the VMs of the operation as they are now.
func (c *Claim) Targets(ctx context.Context) (map[string]Target, error) {
	return c.store.targets(ctx, `JOIN operation_vms ov ON ov.vm = v.id WHERE ov.operation = $1`, c.ID)
}

// Target is what a runner needs to know of a VM.
type Target struct {
	ID           int64
	InstanceType string
	Creation     fleet.Creation
	Machine      string // what the provider calls it, if that is known
	Live         bool
	New          bool // no other operation was ever about it
}

// LiveVMs returns the live VMs of a provider.
func (s *Store) LiveVMs(ctx context.Context, provider string) (map[string]Target, error) {
	return s.targets(ctx, `WHERE v.provider = $1 AND v.status <> 'destroyed'`, provider)
}

func (s *Store) targets(ctx context.Context, where string, arg any) (map[string]Target, error) {
	rows, err := s.pool.Query(ctx, `SELECT v.hostname, v.id, v.instance_type, v.creation, v.machine, v.status <> 'destroyed',
		(SELECT count(*) FROM operation_vms all_of WHERE all_of.vm = v.id) <= 1 FROM vms v `+where, arg)
	if err != nil {
		return nil, err
	}
	targets := map[string]Target{}
	var hostname string
	var t Target
	_, err = pgx.ForEachRow(rows, []any{&hostname, &t.ID, &t.InstanceType, &t.Creation, &t.Machine, &t.Live, &t.New}, func() error {
		targets[hostname] = t
		return nil
	})
	return targets, err
}

// WasDestroyed reports whether all VMs of that hostname are destroyed, of which
// there was at least one: a launch that was refused has let no machine loose, and
// what bears its hostname is somebody else's.
func (s *Store) WasDestroyed(ctx context.Context, provider, hostname string) (yes bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT coalesce(bool_and(status = 'destroyed') AND bool_or(EXISTS (
			SELECT FROM operation_vms ov JOIN operations o ON o.id = ov.operation
			WHERE ov.vm = v.id AND o.kind = 'launch' AND o.applied_at IS NOT NULL)), false)
		FROM vms v WHERE provider = $1 AND hostname = $2`, provider, hostname).Scan(&yes)
	return yes, err
}

// storable makes a text of others' fit for the database, which takes neither NUL
// nor what is not UTF-8, and bounds it.
func storable(text string) string {
	const most = 32 << 10 // bytes
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
}

// Plan notes the VMs that Terraform is about to make or destroy. Earlier
// failures of them in this operation are forgotten.
func (c *Claim) Plan(ctx context.Context, vms []int64) error {
	return c.exec(ctx, `UPDATE operation_vms SET state = 'planned', message = '', started_at = NULL, ended_at = NULL
		WHERE operation = $1 AND vm = ANY($2) AND state <> 'done'`, vms)
}

// Place notes of which types VMs are to be made.
func (c *Claim) Place(ctx context.Context, vms []int64, instanceTypes []string) error {
	return c.exec(ctx, `UPDATE vms v SET instance_type = p.type FROM unnest($2::bigint[], $3::text[]) AS p(vm, type)
		JOIN operation_vms ov ON ov.operation = $1 AND ov.vm = p.vm
		WHERE v.id = p.vm AND v.status <> 'destroyed' AND v.instance_type <> p.type`, vms, instanceTypes)
}

// Note adds to VMs that are made, or destroyed, how that went.
func (c *Claim) Note(ctx context.Context, vms []int64, messages []string) error {
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i] = storable(messages[i])
	}
	return c.exec(ctx, `UPDATE operation_vms ov SET message = n.message FROM unnest($2::bigint[], $3::text[]) AS n(vm, message)
		WHERE ov.operation = $1 AND ov.vm = n.vm AND ov.state = 'done'`, vms, messages)
}

// GiveTokens adds a token to each of the VMs that Terraform is about to make.
// Those from before stay valid: the machine may have one.
func (c *Claim) GiveTokens(ctx context.Context, vms []int64, hashes [][]byte) error {
	return c.exec(ctx, `INSERT INTO vm_tokens (hash, vm) SELECT hash, v.id FROM unnest($2::bigint[], $3::bytea[]) AS given(vm, hash)
		JOIN operation_vms ov ON ov.operation = $1 AND ov.vm = given.vm
		JOIN vms v ON v.id = given.vm AND v.status <> 'destroyed'`, vms, hashes)
}

// Begin notes that Terraform works on VMs since the given times.
func (c *Claim) Begin(ctx context.Context, vms []int64, since []time.Time) error {
	return c.exec(ctx, `UPDATE operation_vms ov SET state = 'running', started_at = begun.at, ended_at = NULL
		FROM unnest($2::bigint[], $3::timestamptz[]) AS begun(vm, at)
		WHERE ov.operation = $1 AND ov.vm = begun.vm AND ov.state IN ('waiting', 'planned')`, vms, since)
}

// Created notes that Terraform has made VMs: from now on they are what they
// say of themselves. A zero time means that it was made by an earlier runner,
// at a time that nobody knows.
func (c *Claim) Created(ctx context.Context, vms []int64, at []time.Time) error {
	return c.exec(ctx, `
		WITH made AS (SELECT vm, nullif(at, '0001-01-01 00:00:00Z') AS at FROM unnest($2::bigint[], $3::timestamptz[]) AS m(vm, at)),
		steps AS (UPDATE operation_vms ov SET state = 'done', ended_at = made.at, message = '' FROM made
			WHERE ov.operation = $1 AND ov.vm = made.vm AND ov.state <> 'done' RETURNING ov.vm, ov.started_at, made.at),
		vms AS (UPDATE vms v SET creation = 'done', status = coalesce(v.reported, v.status), reported = NULL,
				terraform_start = s.started_at, terraform_end = s.at, terraform_seconds = extract(epoch FROM s.at - s.started_at)
			FROM steps s WHERE v.id = s.vm AND v.creation <> 'done' AND v.status <> 'destroyed' RETURNING v.id)
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, 'system', '', 'created' FROM vms`, vms, at)
}

// Describe stores what the provider calls machines, and where they are.
func (c *Claim) Describe(ctx context.Context, hostnames, machines, addresses []string) error {
	return c.exec(ctx, `UPDATE vms v SET machine = d.machine, address = d.address
		FROM unnest($3::text[], $4::text[], $5::text[]) AS d(hostname, machine, address), operations o
		WHERE o.id = $1 AND v.provider = $2 AND v.hostname = d.hostname AND v.status <> 'destroyed'
		AND (v.machine, v.address) IS DISTINCT FROM (d.machine, d.address)`, c.Provider, hostnames, machines, addresses)
}

// Destroyed notes that the machines of VMs are gone.
func (c *Claim) Destroyed(ctx context.Context, vms []int64, at []time.Time) error {
	return c.exec(ctx, `
		WITH gone AS (SELECT * FROM unnest($2::bigint[], $3::timestamptz[]) AS g(vm, at)),
		steps AS (UPDATE operation_vms ov SET state = 'done', ended_at = gone.at, message = '' FROM gone
			WHERE ov.operation = $1 AND ov.vm = gone.vm AND ov.state <> 'done' RETURNING ov.vm)
		INSERT INTO vm_events (vm, actor, address, what) SELECT vm, 'system', '', 'machine destroyed' FROM steps`, vms, at)
}

// Failing notes that something is wrong with VMs; why, Terraform tells when it
// ends.
func (c *Claim) Failing(ctx context.Context, vms []int64) error {
	return c.exec(ctx, `UPDATE operation_vms SET state = 'failed', message = 'Terraform reports an error. Its reason follows when it ends.'
		WHERE operation = $1 AND vm = ANY($2) AND state NOT IN ('done', 'failed')`, vms)
}

// Failed notes why Terraform could not make or destroy VMs. A VM that was not
// made is an error and has no valid token: whatever there is of it is not ours.
// The first reason stands, until the VM is planned again.
func (c *Claim) Failed(ctx context.Context, vms []int64, messages []string) error {
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i] = storable(messages[i])
	}
	return c.exec(ctx, `
		WITH bad AS (SELECT * FROM unnest($2::bigint[], $3::text[]) AS b(vm, message)),
		steps AS (UPDATE operation_vms ov SET state = 'failed', message = bad.message, ended_at = now() FROM bad
			WHERE ov.operation = $1 AND ov.vm = bad.vm AND ov.state <> 'done' AND (ov.state <> 'failed' OR ov.ended_at IS NULL)
			RETURNING ov.vm, bad.message),
		vms AS (UPDATE vms v SET creation = 'failed', status = CASE status WHEN 'destroyed' THEN status ELSE 'error' END, reported = NULL
			FROM steps WHERE v.id = steps.vm AND v.creation = 'pending' RETURNING v.id),
		tokens AS (DELETE FROM vm_tokens t USING vms WHERE t.vm = vms.id)
		INSERT INTO vm_events (vm, actor, address, what, detail)
		SELECT s.vm, 'system', '', o.kind || ' failed', s.message FROM steps s, operations o WHERE o.id = $1`, vms, messages)
}

// Cancelled notes VMs that were not made, or not destroyed, because the
// operation was stopped. Those that were not made are gone for good.
func (c *Claim) Cancelled(ctx context.Context, vms []int64) error {
	return c.exec(ctx, `
		WITH steps AS (UPDATE operation_vms ov SET state = 'cancelled', ended_at = now()
			WHERE ov.operation = $1 AND ov.vm = ANY($2) AND ov.state NOT IN ('done', 'cancelled') RETURNING ov.vm),
		vms AS (UPDATE vms v SET status = 'destroyed', destroyed_at = now(), reported = NULL
			FROM steps WHERE v.id = steps.vm AND v.creation <> 'done' AND v.status <> 'destroyed' RETURNING v.id),
		tokens AS (DELETE FROM vm_tokens t USING vms WHERE t.vm = vms.id)
		INSERT INTO vm_events (vm, actor, address, what) SELECT vm, 'system', '', 'operation stopped' FROM steps`, vms)
}

// SkipNumbers keeps launches away from the numbers of hostnames up to last.
func (c *Claim) SkipNumbers(ctx context.Context, prefix string, last int64) error {
	return c.exec(ctx, `INSERT INTO hostname_numbers (prefix, last) SELECT $2, $3 FROM operations WHERE id = $1
		ON CONFLICT (prefix) DO UPDATE SET last = greatest(hostname_numbers.last, excluded.last)`, prefix, last)
}

// OutputLimit is how much of Terraform's output is kept per operation, in
// bytes.
const OutputLimit = 16 << 20

// Write keeps whole lines of output, up to OutputLimit.
func (c *Claim) Write(ctx context.Context, lines string) error {
	lines = strings.ToValidUTF8(strings.ReplaceAll(lines, "\x00", ""), "\uFFFD")
	return c.hold(ctx, func(tx pgx.Tx) error {
		var had int64
		err := tx.QueryRow(ctx, `UPDATE operations SET output_bytes = output_bytes + $2 WHERE id = $1 RETURNING output_bytes - $2`,
			c.ID, len(lines)).Scan(&had)
		if err != nil || had >= OutputLimit {
			return err
		}
		if had+int64(len(lines)) >= OutputLimit {
			lines = lines[:OutputLimit-had]
			lines = lines[:strings.LastIndexByte(lines, '\n')+1]
			lines += fmt.Sprintf("(There is more output than the %d MiB that are kept. The rest is not.)\n", OutputLimit>>20)
		}
		_, err = tx.Exec(ctx, `INSERT INTO operation_output (operation, lines) VALUES ($1, $2)`, c.ID, lines)
		return err
	})
}

// SetStrays stores which machines of the provider no live row knows.
func (c *Claim) SetStrays(ctx context.Context, hostnames []string) error {
	return c.hold(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM strays WHERE provider = $1`, c.Provider); err != nil {
			return err
		}
		return c.addStrays(ctx, tx, hostnames)
	})
}

// AddStrays adds to those that are known already.
func (c *Claim) AddStrays(ctx context.Context, hostnames []string) error {
	return c.hold(ctx, func(tx pgx.Tx) error { return c.addStrays(ctx, tx, hostnames) })
}

func (c *Claim) addStrays(ctx context.Context, tx pgx.Tx, hostnames []string) error {
	_, err := tx.Exec(ctx, `INSERT INTO strays (provider, hostname) SELECT $1, unnest($2::text[])
		ON CONFLICT (provider, hostname) DO UPDATE SET seen_at = now()`, c.Provider, hostnames)
	return err
}

// Finish ends the operation. message says why it failed.
func (c *Claim) Finish(ctx context.Context, state fleet.OperationState, message string) error {
	return c.exec(ctx, `UPDATE operations SET state = $2, phase = '', error = $3, ended_at = now() WHERE id = $1`, state, storable(message))
}
