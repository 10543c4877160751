// Package pgserver runs a private PostgreSQL server, so that LabLink can be
// installed on one machine without a database administrator.
//
// # The folder
//
// Everything lives in one folder, Options.Dir:
//
//	data/           the cluster, owned by the user the server runs as
//	socket/         the Unix socket (or socket-path names a shorter folder)
//	lock            flocked by the program that uses the folder; holds its pid
//	password        the password of the role "lablink", 0600
//	pg_hba.conf     who may connect; written at every start
//	pg_ident.conf   likewise
//	postgres.log    the server's messages, cut at 8 MiB, one older file kept
//	initdb-*        a cluster in the making; moved to data when complete
//
// # Who may connect
//
// The server listens on a Unix socket only, in a folder that is open to its own
// user and root. The program uses the role "lablink", which owns the database
// but is no superuser, so that a fault in a query cannot run commands on the
// host; it shows a random password (SCRAM). A password rather than "peer",
// because Terraform and command line tools must be able to use the same URL,
// whichever user they run as. The superuser "postgres" has no password at all:
// "peer" lets in exactly the operating system user that started the program.
// This mends a lost password file, and lets root make backups with pg_dump.
//
// # Who owns the process
//
// The server gets a process group of its own, so that Ctrl-C in a terminal
// reaches only the program, which stops the server last. When the program is
// killed, the server goes on, and the next Start takes it over.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// Options say where the server lives and how it is run.
type Options struct {
	// Dir is the folder that holds everything; it is made if it is absent.
	Dir string
	// BinDir is the folder of initdb and postgres; empty means search.
	BinDir string
	// Logger gets progress; nil means no output.
	Logger *slog.Logger
	// Settings are passed to postgres as -c NAME=VALUE, after our own.
	Settings map[string]string
	// DieWithParent ends the server when the program dies, even by kill -9, on
	// Linux. It is for tests: a real installation wants the server to survive.
	DieWithParent bool
}

// Server is a running PostgreSQL server. Call Stop in any case, even after Done.
type Server struct {
	log    *slog.Logger
	lay    layout
	lock   *os.File
	acct   account
	socket socketDir
	pass   string
	proc   *process
	done   chan struct{} // closed when the process ends and nobody asked it to
	quit   chan struct{} // closed to end the tasks
	tasks  sync.WaitGroup

	mu       sync.Mutex
	stopping bool
	err      error
	release  sync.Once
	stopErr  error
}

// Start makes the cluster if Dir is absent or empty, starts the server or takes
// over the one that an earlier program left running, waits until it answers, and
// makes the role and database "lablink" if they are absent. When ctx ends before
// that, what was started is stopped again. How long recovery after a crash takes
// is not bounded by Start; ctx decides.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("pgserver: no folder given")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		log:  log,
		lay:  layout{dir},
		done: make(chan struct{}),
		quit: make(chan struct{}),
	}
	if err := s.start(ctx, o); err != nil {
		s.abandon()
		return nil, fmt.Errorf("private PostgreSQL in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, o Options) error {
	if err := s.lay.check(); err != nil {
		return err
	}
	acct, err := chooseAccount(s.lay)
	if err != nil {
		return err
	}
	s.acct = acct
	if err := s.lay.create(acct); err != nil {
		return err
	}
	if s.lock, err = lockFile(s.lay.lock()); err != nil {
		return err
	}
	// Checked again, because another program may have been at work until it
	// let go of the lock.
	if err := s.lay.check(); err != nil {
		return err
	}
	s.lay.removeLeftovers(s.log)
	if err := s.lay.writeAuth(acct); err != nil {
		return err
	}
	if s.pass, err = s.lay.password(); err != nil {
		return err
	}
	if err := s.launch(ctx, o); err != nil {
		return err
	}
	s.tasks.Go(s.boundLog)
	s.tasks.Go(s.watch)
	return s.ensureDatabase(ctx)
}

// URL is where the program's database is: a form that pgx, libpq and Terraform's
// pg backend all understand. It holds the password.
func (s *Server) URL() string { return lablinkURL(s.socket.path, s.pass) }

// AdminURL is the superuser's URL, on the database "postgres". It works only for
// the operating system user that started the program, and needs no password.
func (s *Server) AdminURL() string { return adminURL(s.socket.path) }

// Dir is the folder of the server.
func (s *Server) Dir() string { return s.lay.dir }

// PID is the process id of the server (the postmaster).
func (s *Server) PID() int { return s.proc.pid }

// Done is closed if the server ends although nobody called Stop; Err says why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why Done was closed, with the last lines of the server's log; it is
// nil before.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Attach returns the URL of the server that another program runs on dir, for
// commands that work beside `lablink serve`. It starts nothing.
func Attach(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("pgserver: %w", err)
	}
	lay := layout{dir}
	pm, state, err := findPostmaster(lay.data())
	if err != nil {
		return "", err
	}
	if state != pmOurs || pm.socketDir == "" {
		return "", fmt.Errorf("no PostgreSQL server is running in %s: start lablink serve first", dir)
	}
	pass, err := readPassword(lay.passwordFile())
	if err != nil {
		return "", err
	}
	return lablinkURL(pm.socketDir, pass), nil
}
