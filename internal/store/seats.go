package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// seatColumns are all empty where v is the empty side of an outer join.
const seatColumns = `coalesce(v.seat_id, 0), coalesce(v.hostname, ''), coalesce(v.useremail, ''), coalesce(v.pin, ''),
	coalesce(v.seat, 'none'), coalesce(v.seat_reason, ''), coalesce(v.seat_since, 'epoch'), coalesce(v.seat_changed, 'epoch')`

func scanSeat(row pgx.Row) (fleet.Seat, error) {
	var s fleet.Seat
	err := row.Scan(&s.ID, &s.Hostname, &s.Email, &s.PIN, &s.State, &s.Reason, &s.Since, &s.Changed, &s.Waiting)
	return s, err
}

// Request is what a participant asks for.
type Request struct {
	Email   string        // normalised by fleet.NormalizeEmail
	Command fleet.Command // passed the grammar
	PIN     string
	Browser []byte // hash of the token in the participant's cookie
	Actor   fleet.Actor
}

// Errors of Assign and Renew that callers tell apart.
var (
	// ErrFull says that no VM is free.
	ErrFull = errors.New("no VM is free")
	// ErrEmailSeated says that the e-mail address holds a seat already.
	ErrEmailSeated = errors.New("this e-mail address holds a seat")
	// ErrBrowserSeated says that the browser was given a seat already.
	ErrBrowserSeated = errors.New("this browser holds a seat")
	// ErrCodeUsed says that the code was given to another VM before, or failed on this one.
	ErrCodeUsed = errors.New("this code was used before")
	// ErrNoSeat says that the seat has ended.
	ErrNoSeat = errors.New("this seat has ended")
)

// assign picks a free VM, one that waits now before the one last seen most
// recently, and gives it to the participant, in one statement: the row lock
// decides between requests, the unique indexes refuse what is left.
const assign = `
WITH waiting AS (
	SELECT v.id FROM vms v WHERE ` + free + ` AND ` + waiting + `
	ORDER BY v.id LIMIT 1 FOR UPDATE OF v SKIP LOCKED),
absent AS (
	SELECT v.id FROM vms v WHERE ` + free + ` AND NOT EXISTS (SELECT FROM waiting)
	ORDER BY v.last_seen_at DESC NULLS LAST LIMIT 1 FOR UPDATE OF v SKIP LOCKED),
v AS (
	UPDATE vms SET useremail = $1, crdcommand = $2, pin = $3, seat = 'requested', seat_reason = '',
		seat_id = nextval('seat_ids'), delivery = nextval('delivery_ids'), seat_since = now(), seat_changed = now(), seat_browser = $5, inuse = false
	FROM (SELECT id FROM waiting UNION ALL SELECT id FROM absent) AS pick WHERE vms.id = pick.id
	RETURNING vms.*),
code AS (INSERT INTO crd_codes (hash, seat_id) SELECT $4, seat_id FROM v),
session AS (INSERT INTO seat_sessions (hash, seat_id) SELECT $5, seat_id FROM v
	ON CONFLICT (hash) DO UPDATE SET seat_id = excluded.seat_id, created_at = now()),
history AS (INSERT INTO vm_events (vm, actor, address, what, detail) SELECT id, $6, $7, 'seat requested', $1 FROM v)
SELECT ` + seatColumns + `, EXISTS (SELECT FROM waiting) FROM v`

// Assign gives the participant a free VM. ErrFull, ErrEmailSeated,
// ErrBrowserSeated and ErrCodeUsed say why there is none; nothing has changed
// then.
func (s *Store) Assign(ctx context.Context, r Request) (fleet.Seat, error) {
	for {
		seat, err := scanSeat(s.pool.QueryRow(ctx, assign,
			r.Email, r.Command.Text, r.PIN, fleet.HashToken(r.Command.Code), r.Browser, r.Actor.Kind, r.Actor.Address))
		switch {
		case err == nil:
			return seat, nil
		case violated(err) == "vms_seat_email":
			return fleet.Seat{}, ErrEmailSeated
		case violated(err) == "vms_seat_browser":
			return fleet.Seat{}, ErrBrowserSeated
		case violated(err) == "crd_codes_pkey":
			return fleet.Seat{}, ErrCodeUsed
		case !errors.Is(err, pgx.ErrNoRows):
			return fleet.Seat{}, err
		}
		// Every free VM is locked by somebody else's statement at this instant. That
		// may be a report, or a request that is about to be refused: only when no row
		// is free there is none.
		n, err := s.FreeCount(ctx)
		if err != nil {
			return fleet.Seat{}, err
		}
		if n == 0 {
			return fleet.Seat{}, ErrFull
		}
		select {
		case <-ctx.Done():
			return fleet.Seat{}, ctx.Err()
		case <-time.After(time.Millisecond + rand.N(10*time.Millisecond)):
		}
	}
}

// SeatOf returns the seat that a browser may see. ErrNoSeat says that it had
// one which has ended; NotFound that it never had one.
func (s *Store) SeatOf(ctx context.Context, browser []byte) (fleet.Seat, error) {
	seat, err := scanSeat(s.pool.QueryRow(ctx, `SELECT `+seatColumns+`, `+waiting+`
		FROM seat_sessions b LEFT JOIN vms v ON v.seat_id = b.seat_id AND v.useremail IS NOT NULL WHERE b.hash = $1`, browser))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return seat, fleet.Errorf(fleet.NotFound, "This browser has no VM yet.")
	case err == nil && seat.ID == 0:
		return seat, ErrNoSeat
	}
	return seat, err
}

// ForgetBrowser makes a browser forget its seat; the seat itself stays.
func (s *Store) ForgetBrowser(ctx context.Context, browser []byte) error {
	_, err := s.pool.Exec(ctx, `
		WITH given AS (UPDATE vms SET seat_browser = NULL WHERE seat_browser = $1)
		DELETE FROM seat_sessions WHERE hash = $1`, browser)
	return err
}

// Recover lets a further browser see the seat of an e-mail address whose PIN it
// knows. The caller limits the attempts.
func (s *Store) Recover(ctx context.Context, actor fleet.Actor, email, pin string, browser []byte) error {
	tag, err := s.pool.Exec(ctx, `
		WITH v AS (SELECT id, seat_id FROM vms WHERE lower(trim(useremail)) = lower(trim($1)) AND pin = $2),
		session AS (INSERT INTO seat_sessions (hash, seat_id) SELECT $3, seat_id FROM v
			ON CONFLICT (hash) DO UPDATE SET seat_id = excluded.seat_id, created_at = now()),
		-- The seat that this browser was given, if another one, is its no more: it may ask anew later.
		other AS (UPDATE vms SET seat_browser = NULL FROM v WHERE vms.seat_browser = $3 AND vms.id <> v.id)
		INSERT INTO vm_events (vm, actor, address, what) SELECT id, $4, $5, 'seat opened on another device' FROM v`,
		email, pin, browser, actor.Kind, actor.Address)
	if err == nil && tag.RowsAffected() == 0 {
		return fleet.FieldErrorf("pin", "No VM fits this e-mail address and PIN. Look at the page on the device where you got it, or ask the organiser.")
	}
	return err
}

// Renew gives a held VM a fresh code from the same participant. The code that is
// under way already changes nothing. ErrCodeUsed says that the code belongs to
// another seat, or was tried on this one before; ErrNoSeat that the seat ended.
func (s *Store) Renew(ctx context.Context, actor fleet.Actor, seatID int64, c fleet.Command) error {
	err := s.transact(ctx, func(tx pgx.Tx) error {
		var vm int64
		var state fleet.SeatState
		var text string
		err := tx.QueryRow(ctx, `SELECT id, seat, coalesce(crdcommand, '') FROM vms WHERE seat_id = $1 AND useremail IS NOT NULL FOR UPDATE`,
			seatID).Scan(&vm, &state, &text)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoSeat
		}
		if err != nil {
			return err
		}
		current, err := fleet.ParseCommand(text)
		if err == nil && current.Code == c.Code && state != fleet.SeatFailed {
			return nil
		}
		if _, err := tx.Exec(ctx, `INSERT INTO crd_codes (hash, seat_id) VALUES ($1, $2)`, fleet.HashToken(c.Code), seatID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE vms SET crdcommand = $2, seat = 'requested', seat_reason = '', seat_changed = now(),
			delivery = nextval('delivery_ids') WHERE id = $1 AND seat = ANY($3)`, vm, c.Text, fleet.From(fleet.EventRenew))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNoSeat
		}
		return record(ctx, tx, vm, actor, "fresh code", "")
	})
	if violated(err) == "crd_codes_pkey" {
		return ErrCodeUsed
	}
	return err
}

// EmailSeated reports whether an e-mail address holds a seat.
func (s *Store) EmailSeated(ctx context.Context, email string) (seated bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM vms WHERE lower(trim(useremail)) = lower(trim($1)))`, email).Scan(&seated)
	return seated, err
}

// CodeUsed reports whether a code was given to any seat before.
func (s *Store) CodeUsed(ctx context.Context, code string) (used bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM crd_codes WHERE hash = $1)`, fleet.HashToken(code)).Scan(&used)
	return used, err
}

// PIN returns the PIN of a held VM, for an admin, and records that it was shown.
func (s *Store) PIN(ctx context.Context, actor fleet.Actor, hostname string) (pin string, err error) {
	err = s.pool.QueryRow(ctx, `
		WITH v AS (SELECT id, pin FROM vms WHERE hostname = $1 AND status <> 'destroyed' AND useremail IS NOT NULL),
		history AS (INSERT INTO vm_events (vm, actor, address, what) SELECT id, $2, $3, 'PIN shown' FROM v)
		SELECT pin FROM v`, hostname, actor.Kind, actor.Address).Scan(&pin)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fleet.Errorf(fleet.NotFound, "%s is held by nobody", clipped(hostname))
	}
	return pin, err
}

// Release ends a seat, or asks once more for a clean-up that failed. The VM is
// free again only when its agent confirms that Chrome Remote Desktop is off the
// last Google account. A VM that nobody holds is a Conflict.
func (s *Store) Release(ctx context.Context, actor fleet.Actor, hostname string) error {
	return s.moveSeat(ctx, hostname, "nobody holds it", `
		WITH old AS (SELECT id, useremail FROM vms WHERE hostname = $1 AND status <> 'destroyed' AND seat = ANY($2) FOR UPDATE),
		v AS (UPDATE vms SET useremail = NULL, crdcommand = NULL, pin = NULL, seat_id = NULL, seat_browser = NULL, seat_since = NULL,
			seat = 'releasing', seat_reason = '', seat_changed = now(), delivery = nextval('delivery_ids')
			FROM old WHERE vms.id = old.id RETURNING vms.id, old.useremail)
		INSERT INTO vm_events (vm, actor, address, what, detail)
		SELECT id, $3, $4, 'seat released', coalesce('was ' || useremail, 'clean-up tried again') FROM v`,
		hostname, fleet.From(fleet.EventRelease), actor.Kind, actor.Address)
}

// ConfirmClean makes a released VM free on an admin's word, for a VM whose
// client cannot clean up by itself.
func (s *Store) ConfirmClean(ctx context.Context, actor fleet.Actor, hostname string) error {
	return s.moveSeat(ctx, hostname, "it is not being released", `
		WITH v AS (UPDATE vms SET seat = 'none', seat_reason = '', seat_changed = now(), delivery = NULL
			WHERE hostname = $1 AND status <> 'destroyed' AND seat = ANY($2) RETURNING id)
		INSERT INTO vm_events (vm, actor, address, what, detail)
		SELECT id, $3, $4, 'free again', 'confirmed by hand' FROM v`,
		hostname, fleet.From(fleet.EventClean), actor.Kind, actor.Address)
}

func (s *Store) moveSeat(ctx context.Context, hostname, refusal, sql string, args ...any) error {
	tag, err := s.pool.Exec(ctx, sql, args...)
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	if _, err := s.VM(ctx, hostname); err != nil {
		return err
	}
	return fleet.Errorf(fleet.Conflict, "%s: %s", hostname, refusal)
}
