package store

import "context"

// Heartbeat notes that a replica lives, and forgets replicas that were silent
// for an hour, with their polls. The VMs that waited there were seen until then.
func (s *Store) Heartbeat(ctx context.Context, replica int64) error {
	_, err := s.pool.Exec(ctx, `
		WITH dead AS (DELETE FROM replicas WHERE heartbeat_at < now() - interval '1 hour' AND id <> $1 RETURNING id, heartbeat_at),
		orphans AS (DELETE FROM polls p USING dead WHERE p.replica = dead.id RETURNING p.vm, dead.heartbeat_at),
		seen AS (UPDATE vms v SET last_seen_at = greatest(v.last_seen_at, o.heartbeat_at) FROM orphans o WHERE v.id = o.vm)
		INSERT INTO replicas (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET heartbeat_at = now()`, replica)
	return err
}

// RetireReplica forgets a replica that stops, and all polls it held at once.
func (s *Store) RetireReplica(ctx context.Context, replica int64) error {
	_, err := s.pool.Exec(ctx, `
		WITH r AS (DELETE FROM replicas WHERE id = $1),
		p AS (DELETE FROM polls WHERE replica = $1 RETURNING vm)
		UPDATE vms v SET last_seen_at = now() FROM p WHERE v.id = p.vm`, replica)
	return err
}

// RestorePolls writes a replica's polls again, after a crash of PostgreSQL that
// emptied the unlogged table. Polls that the table knows, here or newer
// elsewhere, stay as they are.
func (s *Store) RestorePolls(ctx context.Context, replica int64, hostnames []string, polls []int64) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO polls (vm, replica, poll)
		SELECT v.id, $1, mine.poll FROM unnest($2::text[], $3::bigint[]) AS mine(hostname, poll)
		JOIN vms v ON v.hostname = mine.hostname AND v.status <> 'destroyed' ON CONFLICT (vm) DO NOTHING`, replica, hostnames, polls)
	return err
}

// Sweep forgets what no longer matters: attempts of yesterday, and browsers
// whose seat ended months ago.
func (s *Store) Sweep(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `
		WITH attempts AS (DELETE FROM attempts WHERE since < now() - interval '1 day')
		DELETE FROM seat_sessions b WHERE created_at < now() - interval '90 days'
			AND NOT EXISTS (SELECT FROM vms v WHERE v.seat_id = b.seat_id)`)
	return err
}
