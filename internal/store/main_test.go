package store_test

import (
	"context"
	"fmt"
	"testing"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var admin = fleet.Actor{Kind: "admin", Address: "192.0.2.1"}

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), testkit.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// register adds n running machines, vm-1 to vm-n, and returns their names.
func register(t *testing.T, s *store.Store, n int) []string {
	t.Helper()
	names := make([]string, n)
	tokens := make([][]byte, n)
	for i := range names {
		names[i] = fmt.Sprintf("vm-%d", i+1)
		tokens[i] = fleet.HashToken("token of " + names[i])
	}
	must(t, s.RegisterVMs(t.Context(), admin, names, tokens, 100_000))
	for _, name := range names {
		must(t, s.SetStatus(t.Context(), fleet.Actor{Kind: "vm"}, name, fleet.StatusRunning))
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fleet.Kind) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != kind {
		t.Fatalf("error %v has kind %v, want %v", err, fleet.KindOf(err), kind)
	}
}

// request is a participant of their own with a fresh code.
func request(n int) store.Request {
	code := fmt.Sprintf("4/0code-%d", n)
	return store.Request{
		Email: fmt.Sprintf("p%d@example.org", n), PIN: fleet.NewPIN(),
		Command: fleet.Command{Text: fleet.CommandFor(code), Code: code},
		Browser: fleet.HashToken(fmt.Sprintf("browser %d", n)), Actor: fleet.Actor{Kind: "participant"},
	}
}

func vm(t *testing.T, s *store.Store, hostname string) fleet.VM {
	t.Helper()
	v, err := s.VM(context.WithoutCancel(t.Context()), hostname)
	must(t, err)
	return v
}
