package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// tunables go to the end of postgresql.conf when the cluster is made, so that an
// operator can change them. They suit a small server with 15,000 agents and two
// programs: agents hold no database connection, only the programs' pools do.
const tunables = `
# Added by LabLink; yours to change.
max_connections = 100
shared_buffers = 128MB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
`

// fixed settings are given on every start. Fields of a row may be somebody's PIN
// or one-time code, so the log gets neither the DETAIL of an error, which quotes
// the row, nor the statement.
func (s *Server) fixedSettings() []string {
	return []string{
		"listen_addresses=",
		"port=" + socketPort,
		"unix_socket_directories=" + s.socket.path,
		"unix_socket_permissions=0700",
		"hba_file=" + s.lay.hba(),
		"ident_file=" + s.lay.ident(),
		"password_encryption=scram-sha-256",
		"fsync=on",
		"full_page_writes=on",
		"synchronous_commit=on",
		"logging_collector=off",
		"log_destination=stderr",
		"log_line_prefix=%m [%p] ",
		"log_error_verbosity=terse",
		"log_min_error_statement=panic",
		"log_parameter_max_length_on_error=0",
		"lc_messages=C",
	}
}

// makeCluster runs initdb beside the place of the cluster and moves the result
// there when it is complete and on disk, so that a program killed half-way leaves
// nothing that looks like a database.
func (s *Server) makeCluster(ctx context.Context, b binaries, sync bool) error {
	staging, err := os.MkdirTemp(s.lay.dir, stagingPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }() // it is gone after success; what is left, the next start removes
	if err := s.acct.own(staging); err != nil {
		return err
	}
	made := filepath.Join(staging, "data")
	if err := s.initdb(ctx, b, staging, made, sync); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(made, "postgresql.conf"), tunables); err != nil {
		return err
	}
	// An empty folder may be in the place; one with anything in it stays, and the
	// move fails.
	if err := os.Remove(s.lay.data()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(made, s.lay.data()); err != nil {
		return err
	}
	return syncDir(s.lay.dir)
}

// locales are tried in this order: code point order sorts the same everywhere and
// never changes under an index, and UTF-8 character classes let lower() work
// beyond ASCII, where the system has them.
func locales(major int) [][]string {
	plain := []string{"--locale=C"}
	if major >= 17 {
		return [][]string{{"--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"}, plain}
	}
	return [][]string{{"--locale=C", "--lc-ctype=C.UTF-8"}, plain}
}

// initdb ends with the program where the kernel can see to that: nobody would
// use what it makes.
func (s *Server) initdb(ctx context.Context, b binaries, workDir, target string, sync bool) error {
	runtime.LockOSThread() // see startProcess
	defer runtime.UnlockOSThread()
	var failed error
	for _, locale := range locales(b.major) {
		args := append([]string{
			"--pgdata=" + target, "--username=" + superuser, "--encoding=UTF8", "--data-checksums",
			// What would hold if somebody started the cluster without our files.
			"--auth-local=peer", "--auth-host=reject",
		}, locale...)
		if !sync {
			args = append(args, "--no-sync")
		}
		cmd := s.acct.command(ctx, workDir, b.initdb(), args...)
		dieWithParent(cmd.SysProcAttr)
		cmd.WaitDelay = 10 * time.Second
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("initdb: %w", context.Cause(ctx))
		}
		failed = fmt.Errorf("initdb failed: %w: %s", err, lastLines(string(out)))
		if !strings.Contains(string(out), "locale") {
			break
		}
	}
	return failed
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
