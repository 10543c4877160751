package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errEnded means that the server ended instead of becoming ready.
var errEnded = errors.New("the server ended")

// settle is how long the remains of an earlier server may be in the way: it may
// be shutting down, just starting, or its children may not have noticed its death.
const settle = 20 * time.Second

// launch gets a server running: adopts, or starts.
func (s *Server) launch(ctx context.Context, o Options) error {
	patience, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for {
		adopted, err := s.takeOver(ctx)
		if adopted || err != nil {
			return err
		}
		err = s.startNew(ctx, o)
		if !errors.Is(err, errInTheWay) {
			return err
		}
		s.log.Info("waiting for the remains of an earlier PostgreSQL server", "reason", err)
		if pause(patience, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// takeOver adopts the server that an earlier program left running.
func (s *Server) takeOver(ctx context.Context) (bool, error) {
	pm, ok, err := adoptable(s.lay.data())
	if !ok || err != nil {
		return false, err
	}
	s.log.Info("taking over the running PostgreSQL server", "pid", pm.pid)
	p := adoptProcess(pm, s.lay.data())
	// The files that say who may connect may have changed since it started.
	if err := p.signal(syscall.SIGHUP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.forget()
		return false, fmt.Errorf("take over PostgreSQL, pid %d: %w", pm.pid, err)
	}
	err = s.waitReady(ctx, p, func() (string, error) {
		// A server that is starting has not yet written where its socket is.
		pm, err := readPIDFile(pidFile(s.lay.data()))
		if err == nil && pm.socketDir == "" && pm.complete {
			return "", errors.New("it has no Unix socket, so it was not started by LabLink")
		}
		s.socket = socketDir{path: pm.socketDir, short: isShort(pm.socketDir)}
		return pm.socketDir, nil // no file: the server is about to end
	})
	if errors.Is(err, errEnded) {
		return false, nil
	}
	if err != nil {
		p.forget()
		return false, fmt.Errorf("cannot use the PostgreSQL server that is already running (pid %d); stop it and start again: %w", pm.pid, err)
	}
	s.proc = p
	return true, nil
}

// errInTheWay means that the server did not start because of an earlier one.
var errInTheWay = errors.New("an earlier server is in the way")

// startNew starts a server, after making the cluster if there is none.
func (s *Server) startNew(ctx context.Context, o Options) error {
	version, err := s.lay.version()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	bin, err := findBinaries(ctx, o.BinDir, version)
	if err != nil {
		return err
	}
	if version == "" {
		s.log.Info("making a PostgreSQL cluster", "version", bin.major, "user", s.acct.name)
		if err := s.makeCluster(ctx, bin, o.Settings["fsync"] != "off"); err != nil {
			return err
		}
	}
	if s.socket, err = makeSocketDir(s.lay, s.acct); err != nil {
		return err
	}
	if err := s.socket.clear(); err != nil {
		return err
	}
	logFile, offset, err := openLog(s.lay.log())
	if err != nil {
		return err
	}
	defer logFile.Close()

	args := []string{"-D", s.lay.data()}
	for _, setting := range s.fixedSettings() {
		args = append(args, "-c", setting)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Settings)) {
		args = append(args, "-c", name+"="+o.Settings[name])
	}
	// Not bound to ctx, which ends with Start.
	cmd := s.acct.command(context.Background(), s.lay.data(), bin.postgres(), args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	p, err := startProcess(cmd, o.DieWithParent)
	if err != nil {
		return fmt.Errorf("start %s: %w", bin.postgres(), err)
	}
	s.proc = p
	err = s.waitReady(ctx, p, func() (string, error) { return s.socket.path, nil })
	if errors.Is(err, errEnded) {
		s.proc = nil
		tail := tailLog(s.lay.log(), offset)
		if strings.Contains(tail, "pre-existing shared memory block") || strings.Contains(tail, `lock file "postmaster.pid" already exists`) {
			return fmt.Errorf("%w: %s", errInTheWay, tail)
		}
		return fmt.Errorf("PostgreSQL did not start: %w: %s", p.status, tail)
	}
	if err == nil {
		s.log.Info("PostgreSQL is running", "pid", p.pid, "version", bin.major, "user", s.acct.name)
	}
	return err
}

// waitReady connects until the server lets the superuser in. socket tells the
// folder, empty while it is unknown.
func (s *Server) waitReady(ctx context.Context, p *process, socket func() (string, error)) error {
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		dir, err := socket()
		if err != nil {
			return err
		}
		if dir != "" {
			conn, err := pgx.Connect(ctx, adminURL(dir))
			if err == nil {
				return conn.Close(ctx)
			}
			if !worthRetrying(err) {
				return err
			}
		}
		select {
		case <-p.ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("waiting until PostgreSQL answers: %w", context.Cause(ctx))
		case <-time.After(delay):
		}
	}
}

// worthRetrying tells a server that is not ready yet from one that will never
// let us in.
func worthRetrying(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		// No socket yet, or nobody behind it; but one that is closed to us stays so.
		return !errors.Is(err, fs.ErrPermission)
	}
	switch pgErr.Code {
	case "57P01", "57P02", "57P03", "53300": // shutting down, crashed, starting; full
		return true
	}
	return false
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// watch closes done when the server ends although nobody asked it to.
func (s *Server) watch() {
	select {
	case <-s.proc.ended:
	case <-s.quit:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	how := "ended"
	if s.proc.status != nil {
		how = "ended by " + s.proc.status.Error()
	}
	s.err = fmt.Errorf("PostgreSQL (pid %d) %s; the end of %s: %s", s.proc.pid, how, s.lay.log(), tailLog(s.lay.log(), 0))
	s.log.Error("PostgreSQL ended unexpectedly", "pid", s.proc.pid, "error", s.err)
	close(s.done)
}

// Stop shuts the server down, also one that was taken over: fast at first, at
// once when ctx ends. It may be called again, and after the server has ended.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	err := s.proc.shutdown(ctx)
	s.release.Do(func() {
		s.stopErr = err
		s.cleanUp()
	})
	return s.stopErr
}

// abandon undoes a start that failed. A server that was only found running is
// left so.
func (s *Server) abandon() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	if s.proc != nil && s.proc.started {
		ctx, cancel := context.WithTimeout(context.Background(), killAfter)
		defer cancel()
		if err := s.proc.shutdown(ctx); err != nil {
			s.log.Error("cannot stop PostgreSQL after a failed start", "error", err)
		}
	}
	s.cleanUp()
}

func (s *Server) cleanUp() {
	close(s.quit)
	s.tasks.Wait()
	if s.proc != nil {
		if s.proc.forget(); s.proc.hasEnded() {
			s.socket.remove()
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
}
