package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lablink/internal/agent/disk"
)

// phase says how far a delivery has come.
type phase string

const (
	phaseBegun phase = "begun" // written before start-host runs
	phaseDone  phase = "done"  // the outcome is known
)

// record is what outlives the agent: the last delivery and its outcome. It
// holds no code and no PIN.
type record struct {
	Delivery int64     `json:"delivery"`
	Key      string    `json:"key"` // tells deliveries of the same number apart
	Kind     string    `json:"kind"`
	Phase    phase     `json:"phase"`
	Begun    time.Time `json:"begun"`
	Configs  string    `json:"configs,omitempty"` // the host configurations before it began
	PID      int       `json:"pid,omitempty"`     // of start-host, while it runs
	PIDSince int64     `json:"pid_since,omitempty"`
	Result   string    `json:"result,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Reported bool      `json:"reported,omitempty"` // the allocator answered
}

// stateFile keeps one record on disk. Each hostname has its own file, and a
// lock that keeps a second agent away from it.
type stateFile struct {
	path string
	lock *os.File
	last record
}

// openState locks and reads the state of one hostname. A file that cannot be
// read as a record is set aside: then notice says so.
func openState(dir, hostname string) (s *stateFile, notice error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making the state directory: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, hostname+".lock"))
	if err != nil {
		return nil, nil, err
	}
	s = &stateFile{path: filepath.Join(dir, hostname+".json"), lock: lock}
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil, nil
	case err != nil:
		lock.Close()
		return nil, nil, fmt.Errorf("reading the state: %w", err)
	}
	if err := json.Unmarshal(data, &s.last); err != nil {
		s.last = record{}
		notice = fmt.Errorf("%s is damaged (%w): it is now %[1]s.damaged, and the agent starts afresh", s.path, err)
		return s, errors.Join(notice, os.Rename(s.path, s.path+".damaged")), nil
	}
	return s, nil, nil
}

// takeLock returns the file that holds the lock until it is closed.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent (process %s) has this hostname and state directory: stop it first, or give this one another --state-dir",
				strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

// save makes r the last record. When the disk refuses, it is still remembered
// for as long as the agent lives.
func (s *stateFile) save(r record) error {
	s.last = r
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := disk.Replace(s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}
	return nil
}

// close gives the lock up. It is taken off, not just closed: a program that is
// being started at this moment still shares the file for an instant.
func (s *stateFile) close() {
	_ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN)
	_ = s.lock.Close()
}
