// Package server puts the allocator together from its configuration, runs it,
// and stops its parts in the right order.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"lablink/internal/api"
	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/pgserver"
	"lablink/internal/store"
	"lablink/internal/wait"
)

const (
	// stopTimeout is how long requests may take to finish when the process stops.
	stopTimeout = 10 * time.Second
	// startTimeout bounds the first connection to the database.
	startTimeout = 30 * time.Second
	// readTimeout bounds how long a request may take to arrive. Polls and event
	// streams lift it.
	readTimeout = time.Minute
)

// Options are what a Server is built from.
type Options struct {
	Config *config.Config
	Logger *slog.Logger
	// Ready, if set, is called once when the server answers, with its address and
	// the URL of its database.
	Ready func(addr net.Addr, databaseURL string)
	// Binary is the lablink program that the local provider's agents are made of; by default this one.
	Binary string
	// AWS is the account for VMs on AWS; by default the one that this process's environment leads to.
	AWS *awsaccount.Account
	// TerraformGrace is how long Terraform may take to end after an interrupt; by default a minute.
	TerraformGrace time.Duration
	// NewPassword, if set, is called when a first start made an admin password. It
	// is stored in DATA_DIR/admin-password in any case.
	NewPassword func(user, password string)
}

// Server is one replica of the allocator.
type Server struct {
	Options
	replica                              int64
	readTimeout, recheckEvery, tendEvery time.Duration // the constants, shorter in tests
	hub                                  *wait.Hub
	feed                                 *wait.Feed
	store                                *store.Store
	listen                               *store.Listener
	metrics                              *metrics
	api                                  *api.API
	awaited                              chan struct{} // a VM changed, for which logs may have been kept aside
}

// New returns a Server that does nothing yet.
func New(o Options) *Server {
	if o.TerraformGrace == 0 {
		o.TerraformGrace = terraformGrace
	}
	return &Server{
		Options: o, replica: rand.Int64(), readTimeout: readTimeout, recheckEvery: recheckEvery, tendEvery: tendEvery,
		hub: wait.NewHub(), feed: wait.NewFeed(), awaited: make(chan struct{}, 1),
	}
}

// Run serves until ctx ends, then stops: polls and event streams first, then
// requests and operations, then the database. It returns nil after a clean stop.
// It is called once.
func (s *Server) Run(ctx context.Context) (err error) {
	databaseURL := s.Config.DatabaseURL.Reveal()
	var private *pgserver.Server
	var privateDone <-chan struct{}
	if databaseURL == "" {
		private, err = pgserver.Start(ctx, pgserver.Options{
			Dir: filepath.Join(s.Config.DataDir, "postgres"), Logger: s.Logger.With("part", "postgres"),
		})
		if err != nil {
			return s.startError(ctx, err)
		}
		databaseURL, privateDone = private.URL(), private.Done()
		defer func() {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err = errors.Join(err, private.Stop(stopping))
		}()
	}
	if err := s.open(ctx, databaseURL); err != nil {
		return s.startError(ctx, err)
	}
	defer s.store.Close()
	return s.serve(ctx, databaseURL, func() error {
		if private == nil {
			return nil
		}
		return private.Err()
	}, privateDone)
}

// startError makes nothing of what went wrong only because the process was told
// to stop while it started.
func (s *Server) startError(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	s.Logger.Info("stopped while starting", "error", err)
	return nil
}

// open brings the database to this program's schema and connects to it.
func (s *Server) open(ctx context.Context, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := store.Migrate(ctx, databaseURL); err != nil {
		return err
	}
	st, err := store.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	s.store = st
	if err := errors.Join(s.initAdmin(ctx), s.openAccount(ctx)); err != nil {
		st.Close()
		return err
	}
	return nil
}

func (s *Server) serve(ctx context.Context, databaseURL string, databaseErr func() error, databaseDone <-chan struct{}) error {
	s.metrics = newMetrics(s.store, s.hub)
	connected := make(chan struct{})
	s.startListener(connected)
	handler, err := s.handler()
	if err != nil {
		return err
	}

	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stopBackground()
	parts.Go(func() { s.listen.Run(background) })
	parts.Go(func() { s.beat(background) })
	parts.Go(func() { s.sweep(background) })
	parts.Go(func() { s.adoptLogs(background) })
	parts.Go(func() { s.tendLogs(background) })

	select {
	case <-connected:
	case <-ctx.Done():
		return nil
	case <-time.After(startTimeout):
		return errors.New("the database accepts no connection that listens for notifications: is there a proxy in transaction mode in front of it?")
	}
	listener, err := listen(ctx, s.Config.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s, choose another address with --listen: %w", s.Config.Listen, err)
	}
	runner, err := s.runner(ctx, listener.Addr())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	hs := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: min(10*time.Second, s.readTimeout),
		ReadTimeout:       s.readTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	if runner != nil {
		operating, stopOperating := context.WithCancel(ctx)
		defer stopOperating() // waited for with the other parts, while the database is still there
		parts.Go(func() { runner.Run(operating) })
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(listener) }()
	s.Logger.Info("serving", "address", listener.Addr().String(), "public_url", s.Config.Server.PublicURL,
		"machines", s.Config.Auth.Machines)
	if s.Ready != nil {
		s.Ready(listener.Addr(), databaseURL)
	}

	select {
	case <-ctx.Done():
		s.Logger.Info("stopping")
		return s.stop(ctx, hs)
	case err := <-failed:
		return errors.Join(err, s.stop(ctx, hs))
	case <-databaseDone:
		return errors.Join(fmt.Errorf("the private PostgreSQL server ended: %w", databaseErr()), s.stop(ctx, hs))
	}
}

// stop lets the polls go first, so that agents come back by themselves, and
// then waits for what is under way.
func (s *Server) stop(ctx context.Context, hs *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	s.hub.Close()
	s.feed.Close()
	err := hs.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.Logger.Warn("some requests did not finish in time and are cut")
		err = hs.Close()
	}
	s.api.Wait()
	if retireErr := s.store.RetireReplica(ctx, s.replica); retireErr != nil {
		s.Logger.Warn("the end of this replica could not be noted; others notice by its missing heartbeat", "error", retireErr)
	}
	return err
}
