package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// Holders are the seats that whoever asks for a destruction knows of, by
// hostname: 0 for a VM that nobody holds.
type Holders map[string]int64

// HoldersOf returns the VMs that a destruction would find, and who holds them,
// for a confirmation. What changes between the two readings makes the
// destruction be refused.
func (s *Store) HoldersOf(ctx context.Context, d Destroy) (vms []fleet.VM, seen Holders, err error) {
	const which = `FROM vms v WHERE v.status <> 'destroyed' AND v.provider = $1 AND ($2 OR v.hostname = ANY($3)) ORDER BY v.id`
	rows, err := s.pool.Query(ctx, `SELECT v.hostname, coalesce(v.seat_id, 0) `+which, d.Provider, d.All, d.Hostnames)
	if err != nil {
		return nil, nil, err
	}
	seen = Holders{}
	var hostname string
	var seat int64
	if _, err = pgx.ForEachRow(rows, []any{&hostname, &seat}, func() error {
		seen[hostname] = seat
		return nil
	}); err != nil {
		return nil, nil, err
	}
	rows, err = s.pool.Query(ctx, `SELECT `+vmColumns+` `+which, d.Provider, d.All, d.Hostnames)
	if err != nil {
		return nil, nil, err
	}
	vms, err = pgx.CollectRows(rows, scanVM)
	return vms, seen, err
}

// String is a form that a page can hand back; ParseHolders reads it.
func (h Holders) String() string {
	parts := make([]string, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		parts = append(parts, fmt.Sprintf("%s:%d", name, h[name]))
	}
	return strings.Join(parts, " ")
}

// ParseHolders reads what String wrote.
func ParseHolders(s string) (Holders, error) {
	h := Holders{}
	for part := range strings.FieldsSeq(s) {
		name, seat, ok := strings.Cut(part, ":")
		var id int64
		if _, err := fmt.Sscan(seat, &id); err != nil || !ok {
			return nil, fleet.FieldErrorf("seen", "the form is damaged: open the page again")
		}
		h[name] = id
	}
	return h, nil
}
