package pgserver

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// postmaster is what postmaster.pid tells about a server.
type postmaster struct {
	pid       int
	socketDir string // empty while the server is starting
	complete  bool   // the server has written all lines
}

type pmState int

const (
	pmNone    pmState = iota // no postmaster.pid
	pmDead                   // it names a process that is gone
	pmForeign                // it names a process that is something else
	pmUnknown                // it names a PostgreSQL that may be ours
	pmOurs                   // it names the server on this cluster
)

func pidFile(data string) string { return filepath.Join(data, "postmaster.pid") }

// findPostmaster tells whether a server runs on the cluster. A process id alone
// proves nothing: after a crash of the machine somebody else may have it.
func findPostmaster(data string) (postmaster, pmState, error) {
	pm, err := readPIDFile(pidFile(data))
	if errors.Is(err, fs.ErrNotExist) {
		return pm, pmNone, nil
	}
	if err != nil {
		return pm, pmNone, err
	}
	state, err := pm.state(data)
	return pm, state, err
}

// state looks at the process.
func (pm postmaster) state(data string) (pmState, error) {
	if pm.pid <= 1 || pm.pid == os.Getpid() {
		return pmForeign, nil
	}
	if err := syscall.Kill(pm.pid, 0); errors.Is(err, syscall.ESRCH) {
		return pmDead, nil
	}
	argv, err := commandLine(pm.pid)
	if err != nil {
		return pmUnknown, err
	}
	return classify(argv, data), nil
}

// classify reads the command line of a process, which is empty for a zombie.
func classify(argv []string, data string) pmState {
	if len(argv) == 0 || argv[0] == "" {
		return pmDead
	}
	// Children of a server are called "postgres: ...", and never a postmaster.
	if name := filepath.Base(argv[0]); name != "postgres" && name != "postmaster" {
		return pmForeign
	}
	for i, arg := range argv[1:] {
		dir, ok := strings.CutPrefix(arg, "-D")
		if !ok {
			continue
		}
		if dir == "" && i+2 < len(argv) {
			dir = argv[i+2]
		}
		switch {
		case !filepath.IsAbs(dir):
			return pmUnknown
		case sameDir(dir, data):
			return pmOurs
		default:
			return pmForeign
		}
	}
	return pmUnknown
}

func sameDir(a, b string) bool {
	fa, err := os.Stat(a)
	if err != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	fb, err := os.Stat(b)
	return err == nil && os.SameFile(fa, fb)
}

// readPIDFile reads the lines that PostgreSQL documents: process id, data folder,
// start time, port, socket folder, address, shared memory, state. A server writes
// them one after the other while it starts.
func readPIDFile(path string) (postmaster, error) {
	f, err := os.Open(path)
	if err != nil {
		return postmaster{}, err
	}
	defer f.Close()
	var lines []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		lines = append(lines, strings.TrimSpace(sc.Text()))
	}
	var pm postmaster
	if len(lines) > 0 {
		// A negative number is a single-user server's. No number is a file cut
		// short by a crash, which the zero process id stands for.
		pm.pid, _ = strconv.Atoi(lines[0])
		pm.pid = max(pm.pid, -pm.pid)
	}
	if len(lines) > 4 {
		pm.socketDir = lines[4]
	}
	pm.complete = len(lines) > 7
	return pm, nil
}

// adoptable decides what to do about an earlier server: adopt it, or start a new
// one after the removal of a pid file that would keep PostgreSQL from starting.
// The file of a dead process stays: PostgreSQL itself looks whether children of
// the dead server are still at work.
func adoptable(data string) (postmaster, bool, error) {
	pm, state, err := findPostmaster(data)
	if err != nil {
		return pm, false, err
	}
	switch state {
	case pmOurs:
		return pm, true, nil
	case pmUnknown:
		return pm, false, fmt.Errorf("process %d is a PostgreSQL server that may be using %s, but was not started by LabLink: stop it, or remove %s if it serves something else",
			pm.pid, data, pidFile(data))
	case pmForeign:
		if err := os.Remove(pidFile(data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return pm, false, err
		}
	default: // there is none, or only its file
	}
	return pm, false, nil
}
