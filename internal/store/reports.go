package store

import (
	"context"

	"lablink/internal/fleet"
)

// Reports repeat their levels, so that a lost one mends itself. An unchanged
// level rewrites the row at most once a minute, to say that the VM was seen.
const unchangedFor = `interval '60 seconds'`

// calm keeps a VM whose reports alternate for ever from filling the history,
// which nothing ever empties: beyond 60 lines an hour its reports are not
// recorded. What people do is always.
const calm = `coalesce((SELECT e.at FROM vm_events e WHERE e.vm = changed.id ORDER BY e.id DESC OFFSET 59 LIMIT 1)
	< now() - interval '1 hour', true)`

// SetStatus stores a status that a VM reported, and records a change. While
// Terraform still makes the VM, its status is kept aside: see Claim.Created.
func (s *Store) SetStatus(ctx context.Context, actor fleet.Actor, hostname string, status fleet.Status) error {
	return s.setStatus(ctx, actor, hostname, status, "")
}

// longestProblem bounds what a VM may say of its error, in characters.
const longestProblem = "500"

// harmless is what a VM says of its error, in $5, without the secrets of its seat.
const harmless = `left(replace(replace($5, coalesce(substring(crdcommand FROM '--code[^A-Za-z0-9/_.~%]*([A-Za-z0-9/_.~%-]{8,})'), ''), '[code]'),
	coalesce(pin, ''), '[pin]'), ` + longestProblem + `)`

// SetError stores that a VM is in error, and why, in its own words, of which the
// first 500 characters count.
func (s *Store) SetError(ctx context.Context, actor fleet.Actor, hostname, problem string) error {
	return s.setStatus(ctx, actor, hostname, fleet.StatusError, storable(problem))
}

func (s *Store) setStatus(ctx context.Context, actor fleet.Actor, hostname string, status fleet.Status, problem string) error {
	return s.report(ctx, hostname, `
		WITH old AS (SELECT id, coalesce(reported, status) AS status, problem, `+harmless+` AS says FROM vms
			WHERE hostname = $1 AND status <> 'destroyed' AND creation <> 'failed'),
		changed AS (UPDATE vms v SET last_seen_at = now(),
				status = CASE v.creation WHEN 'done' THEN $2 ELSE v.status END,
				reported = CASE v.creation WHEN 'pending' THEN $2 END, problem = old.says
			FROM old WHERE v.id = old.id AND v.status <> 'destroyed' AND v.creation <> 'failed'
			AND (old.status <> $2 OR old.problem <> old.says OR v.last_seen_at IS NULL OR v.last_seen_at < now() - `+unchangedFor+`)
			RETURNING v.id, old.status AS was, old.says, old.problem <> old.says AS other),
		history AS (INSERT INTO vm_events (vm, actor, address, what, detail)
			SELECT id, $3, $4, 'status ' || $2, CASE says WHEN '' THEN 'was ' || was ELSE says END
			FROM changed WHERE (was <> $2 OR other) AND `+calm+`)
		SELECT count(*) FROM old`, hostname, status, actor.Kind, actor.Address, problem)
}

// SetHealth stores the state of the GPU that a VM reported, and records a change.
func (s *Store) SetHealth(ctx context.Context, actor fleet.Actor, hostname string, health fleet.Health) error {
	return s.report(ctx, hostname, `
		WITH old AS (SELECT id, coalesce(healthy, 'unknown') AS healthy FROM vms WHERE hostname = $1 AND status <> 'destroyed'),
		changed AS (UPDATE vms v SET healthy = $2, last_seen_at = now() FROM old
			WHERE v.id = old.id AND v.status <> 'destroyed'
			AND (v.healthy IS DISTINCT FROM $2 OR v.last_seen_at IS NULL OR v.last_seen_at < now() - `+unchangedFor+`)
			RETURNING v.id, old.healthy AS was),
		history AS (INSERT INTO vm_events (vm, actor, address, what, detail)
			SELECT id, $3, $4, 'GPU ' || $2, 'was ' || was FROM changed WHERE was <> $2 AND `+calm+`)
		SELECT count(*) FROM old`, hostname, health, actor.Kind, actor.Address)
}

// SetInUse stores whether the subject software runs on a VM. It is not recorded:
// participants open and close programs all day.
func (s *Store) SetInUse(ctx context.Context, hostname string, inUse bool) error {
	return s.report(ctx, hostname, `
		WITH changed AS (UPDATE vms SET inuse = $2, last_seen_at = now()
			WHERE hostname = $1 AND status <> 'destroyed'
			AND (inuse <> $2 OR last_seen_at IS NULL OR last_seen_at < now() - `+unchangedFor+`))
		SELECT count(*) FROM vms WHERE hostname = $1 AND status <> 'destroyed'`, hostname, inUse)
}

// Phase is one phase of a VM's start-up as it was reported; nil is not reported.
type Phase struct {
	Start, End *float64 // Unix seconds
	Seconds    *float64
}

// SetStartup stores the start-up phases that a VM reported of itself.
func (s *Store) SetStartup(ctx context.Context, hostname string, cloudInit, container Phase) error {
	return s.report(ctx, hostname, `
		WITH changed AS (UPDATE vms SET last_seen_at = now(),
			cloud_init_start = coalesce(to_timestamp($2::float8), cloud_init_start),
			cloud_init_end = coalesce(to_timestamp($3::float8), cloud_init_end),
			cloud_init_seconds = coalesce($4::float8, $3::float8 - $2::float8, cloud_init_seconds),
			container_start = coalesce(to_timestamp($5::float8), container_start),
			container_end = coalesce(to_timestamp($6::float8), container_end),
			container_seconds = coalesce($7::float8, $6::float8 - $5::float8, container_seconds)
			WHERE hostname = $1 AND status <> 'destroyed' RETURNING id)
		SELECT count(*) FROM changed`, hostname,
		cloudInit.Start, cloudInit.End, cloudInit.Seconds, container.Start, container.End, container.Seconds)
}

// report runs a statement that returns how many live VMs have the hostname.
func (s *Store) report(ctx context.Context, hostname, sql string, args ...any) error {
	var found int
	if err := s.pool.QueryRow(ctx, sql, args...).Scan(&found); err != nil {
		return err
	}
	if found == 0 {
		return noVM(hostname)
	}
	return nil
}
