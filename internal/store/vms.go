package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// free is the one definition of a free VM in SQL, see fleet.VM.Free. It is the
// predicate of index vms_free, word for word.
const free = `v.status = 'running' AND v.seat = 'none' AND v.healthy IS DISTINCT FROM 'Unhealthy'`

// waiting tells whether the agent of VM v is in a held poll of a replica that is
// alive. It is a scalar subquery so that a pick evaluates it row by row and stops
// at the first hit, instead of joining everything that waits.
const waiting = `coalesce((SELECT true FROM polls p JOIN replicas r ON r.id = p.replica
	WHERE p.vm = v.id AND r.heartbeat_at > now() - interval '15 seconds'), false)`

const vmColumns = `v.id, v.hostname, v.provider, v.status, coalesce(v.healthy, ''), v.inuse, ` + waiting + `,
	coalesce(v.useremail, ''), v.seat, v.seat_reason, v.seat_since, v.seat_changed, v.created_at,
	greatest(v.last_seen_at, (SELECT p.since FROM polls p WHERE p.vm = v.id)),
	coalesce(v.terraform_seconds, 0), coalesce(v.cloud_init_seconds, 0), coalesce(v.container_seconds, 0),
	v.creation, v.instance_type, v.machine, v.address,
	CASE WHEN v.status = 'error' AND v.creation = 'done' THEN v.problem ELSE '' END`

func scanVM(row pgx.CollectableRow) (fleet.VM, error) {
	var v fleet.VM
	var since, changed, seen *time.Time
	var terraform, cloudInit, container float64
	err := row.Scan(&v.ID, &v.Hostname, &v.Provider, &v.Status, &v.Health, &v.InUse, &v.Waiting,
		&v.Email, &v.Seat, &v.Reason, &since, &changed, &v.CreatedAt, &seen, &terraform, &cloudInit, &container,
		&v.Creation, &v.InstanceType, &v.Machine, &v.Address, &v.Problem)
	if since != nil {
		v.SeatSince = *since
	}
	if changed != nil {
		v.SeatChanged = *changed
	}
	if seen != nil {
		v.LastSeen = *seen
	}
	v.Startup = fleet.StartupTimes{Terraform: seconds(terraform), CloudInit: seconds(cloudInit), Container: seconds(container)}
	return v, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func noVM(hostname string) error {
	return fleet.Errorf(fleet.NotFound, "there is no VM named %q", clipped(hostname))
}

func clipped(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// RegisterVMs adds machines that were set up by hand, with the hashes of their
// tokens, all or none. A name that is taken is a Conflict; more than max
// registered machines are refused as Invalid.
func (s *Store) RegisterVMs(ctx context.Context, actor fleet.Actor, hostnames []string, tokens [][]byte, most int) error {
	err := s.transact(ctx, func(tx pgx.Tx) error {
		// Two registrations at once would each see room for themselves.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('lablink.register'))`); err != nil {
			return err
		}
		var taken []string
		if err := tx.QueryRow(ctx, `SELECT coalesce(array_agg(hostname ORDER BY hostname), '{}') FROM vms
			WHERE hostname = ANY($1) AND status <> 'destroyed'`, hostnames).Scan(&taken); err != nil {
			return err
		}
		if len(taken) > 0 {
			return fleet.Errorf(fleet.Conflict, "already registered: %s", join(taken))
		}
		var have int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM vms WHERE provider = $1 AND status <> 'destroyed'`,
			fleet.ProviderRegistered).Scan(&have); err != nil {
			return err
		}
		if have+len(hostnames) > most {
			return fleet.FieldErrorf("hostnames", "%d more machines would make %d, at most %d may be registered (limits.max_registered)",
				len(hostnames), have+len(hostnames), most)
		}
		_, err := tx.Exec(ctx, `
			WITH given AS (SELECT * FROM unnest($1::text[], $2::bytea[]) AS g(hostname, token)),
			made AS (INSERT INTO vms (hostname, provider) SELECT hostname, $3 FROM given RETURNING id, hostname),
			tokens AS (INSERT INTO vm_tokens (hash, vm) SELECT g.token, m.id FROM given g JOIN made m USING (hostname))
			INSERT INTO vm_events (vm, actor, address, what) SELECT id, $4, $5, 'registered' FROM made`,
			hostnames, tokens, fleet.ProviderRegistered, actor.Kind, actor.Address)
		return err
	})
	if violated(err) == "vms_live_hostname" {
		return fleet.Errorf(fleet.Conflict, "one of these names is already registered")
	}
	return err
}

func join(names []string) string {
	const shown = 10
	out := ""
	for i, n := range names {
		if i == shown {
			return out + ", ..."
		}
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// EnsureVM makes a row for a VM that reports itself without having been
// registered, as the existing clients do where machines need no credential. It
// does nothing if the VM exists. One that Terraform made, and that is destroyed,
// may live on for minutes: it is not taken up again.
func (s *Store) EnsureVM(ctx context.Context, actor fleet.Actor, hostname string, most int) error {
	_, err := s.VM(ctx, hostname)
	if fleet.KindOf(err) != fleet.NotFound {
		return err
	}
	var made bool
	if err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM vms WHERE hostname = $1 AND provider <> $2)`,
		hostname, fleet.ProviderRegistered).Scan(&made); err != nil {
		return err
	}
	if made {
		return noVM(hostname)
	}
	err = s.RegisterVMs(ctx, actor, []string{hostname}, [][]byte{fleet.HashToken(fleet.NewToken())}, most)
	if fleet.KindOf(err) == fleet.Conflict {
		return nil // another report of the same VM came first
	}
	return err
}

// AddToken gives a live VM one more valid token.
func (s *Store) AddToken(ctx context.Context, actor fleet.Actor, hostname string, token []byte) error {
	tag, err := s.pool.Exec(ctx, `
		WITH vm AS (SELECT id FROM vms WHERE hostname = $1 AND status <> 'destroyed'),
		token AS (INSERT INTO vm_tokens (hash, vm) SELECT $2, id FROM vm)
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, $3, $4, 'new token' FROM vm`,
		hostname, token, actor.Kind, actor.Address)
	if err == nil && tag.RowsAffected() == 0 {
		return noVM(hostname)
	}
	return err
}

// ReplaceTokens is AddToken, and makes all other tokens of the VM invalid.
func (s *Store) ReplaceTokens(ctx context.Context, actor fleet.Actor, hostname string, token []byte) error {
	tag, err := s.pool.Exec(ctx, `
		WITH vm AS (SELECT id FROM vms WHERE hostname = $1 AND status <> 'destroyed'),
		old AS (DELETE FROM vm_tokens WHERE vm IN (SELECT id FROM vm)),
		token AS (INSERT INTO vm_tokens (hash, vm) SELECT $2, id FROM vm)
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, $3, $4, 'new token, the old ones are invalid' FROM vm`,
		hostname, token, actor.Kind, actor.Address)
	if err == nil && tag.RowsAffected() == 0 {
		return noVM(hostname)
	}
	return err
}

// RemoveVM takes a registered VM out of the fleet. One that is held, whose
// desktop still belongs to the last holder, or that Terraform made, is a
// Conflict: registered anew, it would be given away as it is.
func (s *Store) RemoveVM(ctx context.Context, actor fleet.Actor, hostname string) error {
	tag, err := s.pool.Exec(ctx, `
		WITH gone AS (
			UPDATE vms SET status = 'destroyed', destroyed_at = now(), seat = 'none', seat_reason = '', delivery = NULL
			WHERE hostname = $1 AND status <> 'destroyed' AND provider = $2 AND seat = 'none' RETURNING id),
		tokens AS (DELETE FROM vm_tokens WHERE vm IN (SELECT id FROM gone))
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, $3, $4, 'removed' FROM gone`,
		hostname, fleet.ProviderRegistered, actor.Kind, actor.Address)
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	v, err := s.VM(ctx, hostname)
	switch {
	case err != nil:
		return err
	case v.Provider != fleet.ProviderRegistered:
		return fleet.Errorf(fleet.Conflict, "%s was made by Terraform: destroy it instead of removing it", hostname)
	case v.Seat.Held():
		return fleet.Errorf(fleet.Conflict, "%s is held by a participant: release the seat first", hostname)
	default:
		return fleet.Errorf(fleet.Conflict, "%s is still on the last participant's Google account: wait for its clean-up, or confirm that you cleaned it", hostname)
	}
}

// VM returns a live VM by hostname.
func (s *Store) VM(ctx context.Context, hostname string) (fleet.VM, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+vmColumns+` FROM vms v WHERE v.hostname = $1 AND v.status <> 'destroyed'`, hostname)
	if err != nil {
		return fleet.VM{}, err
	}
	v, err := pgx.CollectExactlyOneRow(rows, scanVM)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, noVM(hostname)
	}
	return v, err
}

// VMFilter selects VMs for a list. The zero value selects all.
type VMFilter struct {
	Text   string // part of the hostname or the participant's e-mail
	Limit  int    // at most so many, 0 for all
	Offset int
}

// VMs lists the live VMs in the natural order of their names, and says how many
// there are beyond Limit and Offset.
func (s *Store) VMs(ctx context.Context, f VMFilter) (vms []fleet.VM, total int, err error) {
	const match = ` FROM vms v WHERE v.status <> 'destroyed'
		AND ($1 = '' OR strpos(v.hostname, lower($1)) > 0 OR strpos(lower(coalesce(v.useremail, '')), lower($1)) > 0)`
	if err := s.pool.QueryRow(ctx, `SELECT count(*)`+match, f.Text).Scan(&total); err != nil {
		return nil, 0, err
	}
	rows, err := s.pool.Query(ctx, `SELECT `+vmColumns+match+`
		ORDER BY regexp_replace(v.hostname, '[0-9]+$', ''), substring(v.hostname FROM '[0-9]+$')::numeric NULLS FIRST, v.hostname
		LIMIT nullif($2, 0) OFFSET $3`, f.Text, f.Limit, f.Offset)
	if err != nil {
		return nil, 0, err
	}
	vms, err = pgx.CollectRows(rows, scanVM)
	return vms, total, err
}

// Statuses returns the status of every live VM by hostname.
func (s *Store) Statuses(ctx context.Context) (map[string]fleet.Status, error) {
	rows, err := s.pool.Query(ctx, `SELECT hostname, status FROM vms WHERE status <> 'destroyed'`)
	if err != nil {
		return nil, err
	}
	statuses := map[string]fleet.Status{}
	var hostname string
	var status fleet.Status
	_, err = pgx.ForEachRow(rows, []any{&hostname, &status}, func() error {
		statuses[hostname] = status
		return nil
	})
	return statuses, err
}

// FreeCount returns how many VMs a participant could get now.
func (s *Store) FreeCount(ctx context.Context) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM vms v WHERE `+free).Scan(&n)
	return n, err
}

// Counts returns the numbers of the whole fleet. A VM is Silent if it should be
// there but was not heard of for fleet.OverdueAfter, and in Trouble if it says so
// itself, its GPU is unhealthy, its seat failed or could not be cleaned, or what
// it should fetch or report has been due for as long. It is Broken if it
// has no seat, and says itself that something is wrong.
func (s *Store) Counts(ctx context.Context) (fleet.Counts, error) {
	c := fleet.Counts{Seats: map[fleet.SeatState]int{}}
	err := s.pool.QueryRow(ctx, `
		WITH v AS MATERIALIZED (SELECT v.*, `+waiting+` AS waits FROM vms v WHERE v.status <> 'destroyed')
		SELECT count(*), count(*) FILTER (WHERE `+free+`), count(*) FILTER (WHERE waits),
			count(*) FILTER (WHERE v.status = 'running' AND NOT waits AND v.last_seen_at < now() - make_interval(secs => $1)),
			count(*) FILTER (WHERE v.status = 'error' OR v.healthy = 'Unhealthy' OR v.seat IN ('failed', 'unclean')
				OR v.seat IN ('requested', 'delivered', 'releasing') AND v.seat_changed < now() - make_interval(secs => $1)),
			count(*) FILTER (WHERE v.seat = 'none' AND (v.status = 'error' OR v.healthy = 'Unhealthy'))
		FROM v`, fleet.OverdueAfter.Seconds()).Scan(&c.Total, &c.Free, &c.Waiting, &c.Silent, &c.Trouble, &c.Broken)
	if err != nil {
		return c, err
	}
	rows, err := s.pool.Query(ctx, `SELECT seat, count(*) FROM vms WHERE status <> 'destroyed' GROUP BY seat`)
	if err != nil {
		return c, err
	}
	var state fleet.SeatState
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		c.Seats[state] = n
		return nil
	})
	return c, err
}
