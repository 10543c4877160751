package store_test

import (
	"strings"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// A URL may have settings of the pool, which PostgreSQL itself does not know.
func TestOpen_PoolSettings(t *testing.T) {
	t.Parallel()
	url := testkit.DB(t)
	url += map[bool]string{true: "&", false: "?"}[strings.Contains(url, "?")] + "pool_max_conns=3"
	must(t, store.Migrate(t.Context(), url))
	s, err := store.Open(t.Context(), url)
	must(t, err)
	defer s.Close()
	if n := s.Stat().MaxConns(); n != 3 {
		t.Errorf("the pool has %d connections, the URL says 3", n)
	}
}

// A VM that hangs on the last participant's account cannot be removed and
// registered anew as a clean one.
func TestRemoveVM_NotClean(t *testing.T) {
	t.Parallel()
	s := open(t)
	name := register(t, s, 1)[0]
	_, err := s.Assign(t.Context(), request(1))
	must(t, err)
	wantKind(t, s.RemoveVM(t.Context(), admin, name), fleet.Conflict)
	must(t, s.Release(t.Context(), admin, name))
	wantKind(t, s.RemoveVM(t.Context(), admin, name), fleet.Conflict)
	wantKind(t, s.RegisterVMs(t.Context(), admin, []string{name}, [][]byte{fleet.HashToken("another")}, 10), fleet.Conflict)
	must(t, s.ConfirmClean(t.Context(), admin, name))
	must(t, s.RemoveVM(t.Context(), admin, name))
	wantKind(t, s.RemoveVM(t.Context(), admin, name), fleet.NotFound)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := open(t)
	name := register(t, s, 1)[0]
	first, second, third := fleet.HashToken("token of "+name), fleet.HashToken("second"), fleet.HashToken("third")
	must(t, s.AddToken(t.Context(), admin, name, second))
	for _, token := range [][]byte{first, second} {
		if m, err := s.MachineByToken(t.Context(), token); err != nil || m.Hostname != name {
			t.Errorf("a valid token: %+v, %v", m, err)
		}
	}
	must(t, s.ReplaceTokens(t.Context(), admin, name, third))
	for _, token := range [][]byte{first, second} {
		_, err := s.MachineByToken(t.Context(), token)
		wantKind(t, err, fleet.Unauthenticated)
	}
	if m, err := s.MachineByToken(t.Context(), third); err != nil || m.Hostname != name {
		t.Errorf("the new token: %+v, %v", m, err)
	}
	wantKind(t, s.ReplaceTokens(t.Context(), admin, "nobody", third), fleet.NotFound)
}

// Of one process's polls the one that began last counts, in whichever order they
// reach the database.
func TestPoll_LateOlder(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	id := vm(t, s, "vm-1").ID
	older, newer := store.Poll{VM: id, Replica: 1, ID: 1}, store.Poll{VM: id, Replica: 1, ID: 2}
	for _, p := range []store.Poll{newer, older} {
		if _, err := s.OpenPoll(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	must(t, s.ClosePoll(t.Context(), older))
	must(t, s.Heartbeat(t.Context(), 1))
	if !vm(t, s, "vm-1").Waiting {
		t.Error("the end of the older poll ended the newer one")
	}
}

// A VM whose reports alternate for ever does not fill the history.
func TestEvents_Flapping(t *testing.T) {
	t.Parallel()
	s := open(t)
	register(t, s, 1)
	for range 100 {
		must(t, s.SetStatus(t.Context(), admin, "vm-1", fleet.StatusError))
		must(t, s.SetStatus(t.Context(), admin, "vm-1", fleet.StatusRunning))
	}
	_, err := s.Assign(t.Context(), request(1))
	must(t, err)
	events, err := s.Events(t.Context(), vm(t, s, "vm-1").ID, 1000)
	must(t, err)
	if len(events) > 70 {
		t.Errorf("200 changes within seconds made %d lines", len(events))
	}
	if events[0].What != "seat requested" {
		t.Errorf("the newest line is %q: what people do is always recorded", events[0].What)
	}
}
