package server_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/server"
	"lablink/internal/testkit"
)

// PostgreSQL is restarted while a VM waits: the poll lives on, and gets what
// comes afterwards. The listener's connection is killed as well, and a code is
// given while nobody listens.
func TestPoll_DatabaseRestarts(t *testing.T) {
	t.Parallel()
	pg := testkit.RawServer(t)
	a := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: pg.URL()})
	tokens := a.Register("vm-1", "vm-2")
	answer := poll(t.Context(), a, "vm-1", tokens["vm-1"])
	waits(t, a, "vm-1")
	pg = testkit.RestartServer(t, pg)
	testkit.Eventually(t, "the database to be back", func() bool {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/readyz"}).Status == http.StatusOK
	})
	waits(t, a, "vm-1") // noted again, although the table was emptied or the connection lost
	_, pin := request(t, a, 1)
	wantDelivery(t, answer, 1, pin)

	answer = poll(t.Context(), a, "vm-2", tokens["vm-2"])
	waits(t, a, "vm-2")
	conn, err := pgx.Connect(t.Context(), pg.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	// While the tables are locked nobody can listen anew, so that the notification is lost for certain.
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = '-- ping'`); err != nil {
		t.Fatal(err)
	}
	_, pin = request(t, a, 2)
	wantDelivery(t, answer, 2, pin)
}

// A wake-up that is lost altogether is made up for by the database.
func TestPoll_MissedNotification(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `ALTER TABLE vms DISABLE TRIGGER trigger_crd_command_update; ALTER TABLE vms DISABLE TRIGGER vms_changed`); err != nil {
		t.Fatal(err)
	}
	_, pin := request(t, a, 1)
	// The listener's next connection asks for everything that is pending.
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND query NOT LIKE 'SELECT pg_terminate%' AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, answer, 1, pin)
}

// A database that does not answer holds no request for ever, nor the turns in
// which polls begin.
func TestPoll_SilentDatabase(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE vm_tokens`); err != nil {
		t.Fatal(err)
	}
	var answers []<-chan testkit.Response
	for range 20 {
		answers = append(answers, poll(t.Context(), a, "vm-1", token))
	}
	wantStatus(t, <-answers[0], http.StatusServiceUnavailable)
	if _, err := conn.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	poll(t.Context(), a, "vm-1", token) // of the twenty, all may have been refused at the same moment
	waits(t, a, "vm-1")
	_, pin := request(t, a, 1)
	wantDelivery(t, poll(t.Context(), a, "vm-1", token), 1, pin)
}

// What the table of polls forgets is noted again by the regular check.
func TestPoll_ForgottenByTheTable(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Adjust: func(s *server.Server) { server.SetRecheckEvery(s, 100*time.Millisecond) }})
	token := a.Register("vm-1")["vm-1"]
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `TRUNCATE polls`); err != nil {
		t.Fatal(err)
	}
	waits(t, a, "vm-1")
	_, pin := request(t, a, 1)
	wantDelivery(t, answer, 1, pin)
}
