package store

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// Launch is what an admin asks for.
type Launch struct {
	Provider     string
	Prefix       string // of hostnames
	InstanceType string
	Count        int
	Most         int // live VMs of the provider
}

// changeFleet lets one launch, retry or destroy at a time count and name VMs. It
// locks the rows of open operations as well: their runners lock those before the
// rows of VMs, and whoever did it the other way round would be caught in a
// deadlock with them.
func (s *Store) changeFleet(ctx context.Context, f func(tx pgx.Tx) (fleet.Operation, error)) (op fleet.Operation, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('lablink.fleet'))`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT id FROM operations WHERE state IN ('pending', 'running') ORDER BY id FOR UPDATE`); err != nil {
			return err
		}
		op, err = f(tx)
		return err
	})
	return op, err
}

// Launch writes the rows of new VMs, and the operation that will make them.
func (s *Store) Launch(ctx context.Context, actor fleet.Actor, l Launch) (fleet.Operation, error) {
	return s.changeFleet(ctx, func(tx pgx.Tx) (fleet.Operation, error) { return launch(ctx, tx, actor, l) })
}

// Replace destroys a VM and makes a new one in its place, for a desktop that its
// last participant has left in a state that nobody should inherit. It returns
// the launch, which comes second: a provider may have no room for both.
func (s *Store) Replace(ctx context.Context, actor fleet.Actor, hostname string, seen Holders, l Launch) (fleet.Operation, error) {
	l.Count = 1
	return s.changeFleet(ctx, func(tx pgx.Tx) (fleet.Operation, error) {
		gone, err := destroy(ctx, tx, actor, Destroy{Provider: l.Provider, Hostnames: []string{hostname}, Seen: seen})
		if err != nil {
			return gone, err
		}
		if err := tx.QueryRow(ctx, `SELECT coalesce(nullif(instance_type, ''), $2) FROM vms WHERE id = $1`,
			gone.Steps[0].VM, l.InstanceType).Scan(&l.InstanceType); err != nil {
			return gone, err
		}
		return launch(ctx, tx, actor, l)
	})
}

func launch(ctx context.Context, tx pgx.Tx, actor fleet.Actor, l Launch) (op fleet.Operation, err error) {
	var live int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM vms WHERE provider = $1 AND status <> 'destroyed'`, l.Provider).Scan(&live); err != nil {
		return op, err
	}
	if live+l.Count > l.Most {
		return op, fleet.FieldErrorf("num_vms", "%s would make %d with the %d that there are: at most %d may be alive at once (limits.max_vms). "+
			"Ask for %s, or destroy some first", counted(l.Count, "more VM"), live+l.Count, live, l.Most, room(l.Most-live))
	}
	var last int64
	if err := tx.QueryRow(ctx, `
		WITH used AS (SELECT coalesce(max(substring(hostname FROM length($1) + 1)::numeric), 0) AS last FROM vms
			WHERE starts_with(hostname, $1) AND substring(hostname FROM length($1) + 1) ~ '^[0-9]{1,15}$')
		INSERT INTO hostname_numbers (prefix, last) SELECT $1, last + $2 FROM used
		ON CONFLICT (prefix) DO UPDATE SET last = greatest(hostname_numbers.last, excluded.last - $2) + $2
		RETURNING last`, l.Prefix, l.Count).Scan(&last); err != nil {
		return op, fmt.Errorf("number the new VMs: %w", err)
	}
	names := make([]string, l.Count)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", l.Prefix, last-int64(l.Count)+int64(i)+1)
		if err := fleet.ValidateHostname(names[i]); err != nil {
			return op, err
		}
	}
	var vms []int64
	err = tx.QueryRow(ctx, `
		WITH made AS (INSERT INTO vms (hostname, provider, status, creation, instance_type)
			SELECT name, $2, 'provisioning', 'pending', $3 FROM unnest($1::text[]) AS name RETURNING id)
		SELECT array_agg(id) FROM made`, names, l.Provider, l.InstanceType).Scan(&vms)
	if violated(err) == "vms_live_hostname" {
		return op, fleet.Errorf(fleet.Conflict, "a machine was registered under one of the new names at this moment: launch again")
	}
	if err != nil {
		return op, err
	}
	return enqueue(ctx, tx, actor, fleet.Operation{Kind: fleet.KindLaunch, Provider: l.Provider, InstanceType: l.InstanceType}, vms)
}

func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func room(n int) string {
	if n <= 0 {
		return "none"
	}
	return fmt.Sprintf("at most %d", n)
}

// enqueue writes an operation on VMs, with a line in the history of each.
func enqueue(ctx context.Context, tx pgx.Tx, actor fleet.Actor, op fleet.Operation, vms []int64) (fleet.Operation, error) {
	var id int64
	err := tx.QueryRow(ctx, `
		WITH op AS (INSERT INTO operations (kind, provider, instance_type, actor, actor_address) VALUES ($1, $2, $3, $4, $5) RETURNING id),
		steps AS (INSERT INTO operation_vms (operation, vm) SELECT op.id, vm FROM op, unnest($6::bigint[]) AS vm),
		history AS (INSERT INTO vm_events (vm, actor, address, what, detail)
			SELECT vm, $4, $5, $1::text || ' asked for', 'operation ' || op.id FROM op, unnest($6::bigint[]) AS vm)
		SELECT id FROM op`, op.Kind, op.Provider, op.InstanceType, actor.Kind, actor.Address, vms).Scan(&id)
	if err != nil {
		return op, err
	}
	return readOperation(ctx, tx, id)
}

// Destroy says which VMs are to be destroyed.
type Destroy struct {
	Provider  string
	Hostnames []string // or all
	All       bool
	Confirm   int     // with All: how many the caller thinks there are
	Seen      Holders // if set, the destruction is refused when somebody else got one of the VMs meanwhile
}

// Destroy takes VMs out of the pool for good, at once, and writes the operation
// that destroys the machines. Launches of which nothing else is left are told to
// stop.
func (s *Store) Destroy(ctx context.Context, actor fleet.Actor, d Destroy) (fleet.Operation, error) {
	return s.changeFleet(ctx, func(tx pgx.Tx) (fleet.Operation, error) { return destroy(ctx, tx, actor, d) })
}

func destroy(ctx context.Context, tx pgx.Tx, actor fleet.Actor, d Destroy) (op fleet.Operation, err error) {
	found, err := lockForDestruction(ctx, tx, d)
	if err != nil {
		return op, err
	}
	if err := found.check(d); err != nil {
		return op, err
	}
	if _, err := tx.Exec(ctx, `
		WITH old AS (SELECT id, useremail FROM vms WHERE id = ANY($1)),
		gone AS (UPDATE vms SET status = 'destroyed', destroyed_at = now(), reported = NULL,
			useremail = NULL, crdcommand = NULL, pin = NULL, seat_id = NULL, seat_browser = NULL, seat_since = NULL,
			seat = 'none', seat_reason = '', delivery = NULL WHERE id = ANY($1)),
		tokens AS (DELETE FROM vm_tokens WHERE vm = ANY($1))
		INSERT INTO vm_events (vm, actor, address, what, detail)
		SELECT id, $2, $3, 'seat ended', 'was ' || useremail FROM old WHERE useremail IS NOT NULL`,
		found.ids, actor.Kind, actor.Address); err != nil {
		return op, err
	}
	if _, err := tx.Exec(ctx, `UPDATE operations o SET stopping = true
		WHERE kind = 'launch' AND state IN ('pending', 'running') AND NOT stopping AND provider = $1
		AND NOT EXISTS (SELECT FROM operation_vms ov JOIN vms v ON v.id = ov.vm WHERE ov.operation = o.id AND v.status <> 'destroyed')`,
		d.Provider); err != nil {
		return op, err
	}
	return enqueue(ctx, tx, actor, fleet.Operation{Kind: fleet.KindDestroy, Provider: d.Provider}, found.ids)
}

// doomed are the VMs that a destruction found.
type doomed struct {
	ids        []int64
	holders    Holders
	registered []string // by hand
	foreign    []string // another provider's
}

func lockForDestruction(ctx context.Context, tx pgx.Tx, d Destroy) (found doomed, err error) {
	found.holders = Holders{}
	rows, err := tx.Query(ctx, `SELECT id, hostname, provider, coalesce(seat_id, 0) FROM vms
		WHERE status <> 'destroyed' AND ($1 AND provider = $2 OR NOT $1 AND hostname = ANY($3)) ORDER BY id FOR UPDATE`,
		d.All, d.Provider, d.Hostnames)
	if err != nil {
		return found, err
	}
	var id, seat int64
	var hostname, provider string
	_, err = pgx.ForEachRow(rows, []any{&id, &hostname, &provider, &seat}, func() error {
		switch provider {
		case d.Provider:
		case fleet.ProviderRegistered:
			found.registered = append(found.registered, hostname)
		default:
			found.foreign = append(found.foreign, hostname)
		}
		found.ids, found.holders[hostname] = append(found.ids, id), seat
		return nil
	})
	return found, err
}

func (found doomed) check(d Destroy) error {
	var missing []string
	for _, h := range d.Hostnames {
		if _, ok := found.holders[h]; !ok {
			missing = append(missing, clipped(h))
		}
	}
	switch {
	case len(missing) > 0:
		return &fleet.Error{Kind: fleet.NotFound, Field: "hostnames", Message: "there is no VM named " + join(missing) + "; nothing was destroyed"}
	case len(found.registered) > 0:
		return &fleet.Error{Kind: fleet.Conflict, Field: "hostnames", Message: fmt.Sprintf(
			"%s: registered by hand, so that only you can end the machine. Remove it from LabLink instead; nothing was destroyed", join(found.registered))}
	case len(found.foreign) > 0:
		return &fleet.Error{Kind: fleet.Conflict, Field: "hostnames", Message: fmt.Sprintf(
			"%s: made by another provider than %s, which is this server's; nothing was destroyed", join(found.foreign), d.Provider)}
	case len(found.ids) == 0:
		return fleet.Errorf(fleet.Conflict, "there is no VM to destroy")
	case d.All && d.Confirm != len(found.ids):
		return fleet.FieldErrorf("confirm", "there are %d VMs, not %d: type %d to destroy them all", len(found.ids), d.Confirm, len(found.ids))
	case d.Seen == nil || maps.Equal(d.Seen, found.holders):
		return nil
	}
	return fleet.Errorf(fleet.Conflict, "Something has changed since you looked: another VM, or another participant. Nothing was destroyed. Look again and confirm once more")
}

// Retry writes a new operation for the VMs that a finished one left failed.
func (s *Store) Retry(ctx context.Context, actor fleet.Actor, id int64) (fleet.Operation, error) {
	return s.changeFleet(ctx, func(tx pgx.Tx) (fleet.Operation, error) {
		old, err := readOperation(ctx, tx, id)
		if err != nil {
			return old, err
		}
		var vms []int64
		if old.Kind == fleet.KindLaunch {
			err = tx.QueryRow(ctx, `
				WITH again AS (UPDATE vms v SET creation = 'pending', status = 'provisioning', reported = NULL,
						instance_type = o.instance_type -- another one may have been tried last
					FROM operation_vms ov JOIN operations o ON o.id = ov.operation
					WHERE ov.operation = $1 AND ov.state = 'failed' AND v.id = ov.vm AND v.creation = 'failed' AND v.status <> 'destroyed' RETURNING v.id)
				SELECT coalesce(array_agg(id), '{}') FROM again`, id).Scan(&vms)
		} else {
			// Not those whose destruction somebody else has asked for, or achieved, meanwhile.
			err = tx.QueryRow(ctx, `SELECT coalesce(array_agg(ov.vm), '{}') FROM operation_vms ov WHERE ov.operation = $1 AND ov.state IN ('failed', 'cancelled')
				AND NOT EXISTS (SELECT FROM operation_vms l WHERE l.vm = ov.vm AND l.operation > ov.operation)`, id).Scan(&vms)
		}
		switch {
		case err != nil:
			return old, err
		case !old.State.Final():
			return old, fleet.Errorf(fleet.Conflict, "this operation is still %s", old.State)
		case len(vms) == 0:
			return old, fleet.Errorf(fleet.Conflict, "nothing is left to try again: its VMs are there, or were tried again or destroyed since")
		}
		return enqueue(ctx, tx, actor, old, vms)
	})
}

// StopOperation asks for an operation to stop. One that nobody runs yet is taken
// up only to clean up after it.
func (s *Store) StopOperation(ctx context.Context, id int64) error {
	tag, err := s.pool.Exec(ctx, `UPDATE operations SET stopping = true WHERE id = $1 AND state IN ('pending', 'running')`, id)
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	op, err := s.Operation(ctx, id)
	if err != nil {
		return err
	}
	return fleet.Errorf(fleet.Conflict, "this operation is over already: %s", op.State)
}
