package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// Poll is one held request of one VM at one replica.
type Poll struct {
	VM      int64
	Replica int64
	ID      int64 // unique within the replica
}

// Delivery is something for an agent to fetch and to acknowledge.
type Delivery struct {
	ID      int64
	State   fleet.SeatState // SeatRequested, SeatDelivered or SeatReleasing
	Command string          // a secret
	PIN     string          // a secret
	Age     time.Duration   // how long it has waited for the agent, by the database's clock
}

// Errors that end a poll without a delivery.
var (
	// ErrSuperseded says that the VM has a newer poll.
	ErrSuperseded = errors.New("the VM opened a newer poll")
	// ErrGone says that the VM is destroyed.
	ErrGone = errors.New("the VM is destroyed")
)

const deliveryColumns = `v.status = 'destroyed', v.seat, coalesce(v.delivery, 0), coalesce(v.crdcommand, ''), coalesce(v.pin, ''),
	coalesce(extract(epoch FROM clock_timestamp() - v.seat_changed), 0)::float8`

// OpenPoll notes that a VM waits here, replacing any older poll of it, and
// returns what it has to fetch, nil if nothing.
func (s *Store) OpenPoll(ctx context.Context, p Poll) (*Delivery, error) {
	return scanDelivery(s.pool.QueryRow(ctx, `
		WITH p AS (INSERT INTO polls (vm, replica, poll) VALUES ($1, $2, $3)
			ON CONFLICT (vm) DO UPDATE SET replica = excluded.replica, poll = excluded.poll, since = now()
			-- An older poll of the same process may come later to the database.
			WHERE polls.replica <> excluded.replica OR polls.poll < excluded.poll)
		SELECT false, `+deliveryColumns+` FROM vms v WHERE v.id = $1`, p.VM, p.Replica, p.ID))
}

// CheckPoll returns what a VM that waits has to fetch by now, nil if nothing. A
// poll that is not noted any more had a newer one beside it, which may have
// ended since.
func (s *Store) CheckPoll(ctx context.Context, p Poll) (*Delivery, error) {
	return scanDelivery(s.pool.QueryRow(ctx, `
		SELECT NOT EXISTS (SELECT FROM polls WHERE vm = $1 AND replica = $2 AND poll = $3), `+deliveryColumns+`
		FROM vms v WHERE v.id = $1`, p.VM, p.Replica, p.ID))
}

func scanDelivery(row pgx.Row) (*Delivery, error) {
	var d Delivery
	var superseded, gone bool
	var age float64
	err := row.Scan(&superseded, &gone, &d.State, &d.ID, &d.Command, &d.PIN, &age)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || err == nil && gone:
		return nil, ErrGone
	case err != nil:
		return nil, err
	case superseded:
		return nil, ErrSuperseded
	case !d.State.Pending():
		return nil, nil
	}
	d.Age = seconds(age)
	return &d, nil
}

// relaxed lets the transaction of a statement that joins it commit without
// waiting for the disk. It is for what a crash of the database may take back,
// because it is made up for: a VM is seen again at its next poll, a delivery
// that is not noted is delivered once more. Notifying commits take turns, and a
// request for a VM would stand behind the disk twice for each seat.
const relaxed = `(SELECT set_config('synchronous_commit', 'off', true)) AS relaxed`

// ClosePoll notes that a poll has ended; the VM was seen until now.
func (s *Store) ClosePoll(ctx context.Context, p Poll) error {
	_, err := s.pool.Exec(ctx, `
		WITH p AS (DELETE FROM polls WHERE vm = $1 AND replica = $2 AND poll = $3 RETURNING vm)
		UPDATE vms SET last_seen_at = now() FROM p, `+relaxed+` WHERE id = p.vm`, p.VM, p.Replica, p.ID)
	return err
}

// Pending lists the hostnames of VMs that have something to fetch.
func (s *Store) Pending(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT hostname FROM vms WHERE seat IN ('requested', 'delivered', 'releasing')`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Delivered notes that a code was written to the VM's poll. It comes after the
// writing: an answer that could not be written was not delivered.
func (s *Store) Delivered(ctx context.Context, vm, delivery int64) error {
	return s.afterWriting(ctx, vm, delivery, fleet.SeatDelivered, fleet.EventDeliver, "code delivered", "FROM "+relaxed)
}

// Assumed is Delivered for a client that reports no result: for it, the answer
// counts as acknowledged.
func (s *Store) Assumed(ctx context.Context, vm, delivery int64) error {
	return s.afterWriting(ctx, vm, delivery, fleet.SeatAssumed, fleet.EventAssume, "code delivered, no result expected", "")
}

func (s *Store) afterWriting(ctx context.Context, vm, delivery int64, to fleet.SeatState, e fleet.SeatEvent, what, from string) error {
	_, err := s.pool.Exec(ctx, `
		WITH v AS (UPDATE vms SET seat = $3, seat_changed = now(), last_seen_at = now() `+from+`
			WHERE id = $1 AND delivery = $2 AND seat = ANY($4) AND seat <> $3 RETURNING id)
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, 'system', '', $5 FROM v`,
		vm, delivery, to, fleet.From(e), what)
	return err
}

// Acknowledge stores what the agent says became of a delivery: EventConnect,
// EventFail or EventClean. Repeating it is harmless. A delivery that was replaced
// by a newer one, or that does not fit the seat's state, is a Conflict.
func (s *Store) Acknowledge(ctx context.Context, actor fleet.Actor, hostname string, delivery int64, e fleet.SeatEvent, reason string) error {
	from, to, what := acknowledgements(e)
	var state fleet.SeatState
	var current int64
	var allowed bool
	err := s.pool.QueryRow(ctx, `
		WITH old AS (SELECT id, seat, coalesce(delivery, 0) AS delivery FROM vms
			WHERE hostname = $1 AND status <> 'destroyed' FOR UPDATE),
		move AS (SELECT * FROM unnest($3::text[], $4::text[], $5::text[]) AS m(from_seat, to_seat, what)),
		v AS (UPDATE vms SET seat = m.to_seat, seat_reason = $6, seat_changed = now(), last_seen_at = now()
			FROM old JOIN move m ON m.from_seat = old.seat
			WHERE vms.id = old.id AND old.delivery = $2 AND m.to_seat <> old.seat RETURNING vms.id, m.what),
		history AS (INSERT INTO vm_events (vm, actor, address, what, detail) SELECT id, $7, $8, what, $6 FROM v)
		SELECT seat, delivery, EXISTS (SELECT FROM move WHERE from_seat = old.seat) FROM old`,
		hostname, delivery, from, to, what, reason, actor.Kind, actor.Address).Scan(&state, &current, &allowed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return noVM(hostname)
	case err != nil:
		return err
	case current != delivery:
		return fleet.Errorf(fleet.Conflict, "delivery %d of %s is not the current one", delivery, hostname)
	case e == fleet.EventClean && state == fleet.SeatNone: // confirmed before
		return nil
	case !allowed:
		return fleet.Errorf(fleet.Conflict, "delivery %d of %s cannot end in %q: the seat is %s", delivery, hostname, e, state)
	default:
		return nil
	}
}

// acknowledgements lists the transitions of a result, and how the history names
// them. A failure while releasing is a failed clean-up, whatever the agent calls
// it.
func acknowledgements(e fleet.SeatEvent) (from, to []fleet.SeatState, what []string) {
	names := map[fleet.SeatEvent]string{
		fleet.EventConnect: "connected", fleet.EventFail: "set-up failed",
		fleet.EventClean: "free again", fleet.EventCleanFailed: "clean-up failed",
	}
	events := []fleet.SeatEvent{e}
	if e == fleet.EventFail {
		events = append(events, fleet.EventCleanFailed)
	}
	for _, e := range events {
		for _, state := range fleet.From(e) {
			next, _ := state.Next(e)
			from, to, what = append(from, state), append(to, next), append(what, names[e])
		}
	}
	return from, to, what
}
