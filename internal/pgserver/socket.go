package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// socketPort is only a part of the socket's name. It is in every URL, because a
// PGPORT in the program's environment would count otherwise.
const (
	socketPort = "5432"
	socketName = ".s.PGSQL." + socketPort
)

// maxSocketPath is the limit of macOS; Linux has 107.
const maxSocketPath = 103

const shortPrefix = "lablink-pg-"

// socketDir is the folder of the Unix socket, open to the server's user and root.
type socketDir struct {
	path  string
	short bool // outside of the server's folder
}

// plainPath holds no character that means something in a list of folders or in a
// connection string.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._-]+$`)

func (d socketDir) file() string { return filepath.Join(d.path, socketName) }

// makeSocketDir prefers a folder inside the server's; where that path is too long
// for a socket, it makes a short one with a random name, and remembers it, so that
// the URL stays the same over restarts.
func makeSocketDir(l layout, a account) (socketDir, error) {
	inside := socketDir{path: l.socket()}
	if len(inside.file()) <= maxSocketPath && plainPath.MatchString(inside.path) {
		if err := os.Mkdir(inside.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return inside, err
		}
		fi, err := os.Lstat(inside.path)
		if err != nil {
			return inside, err
		}
		if !fi.IsDir() {
			return inside, fmt.Errorf("%s is not a folder", inside.path)
		}
		return inside, errors.Join(a.own(inside.path), os.Chmod(inside.path, 0o700)) //nolint:gosec // a folder
	}

	if b, err := os.ReadFile(l.socketPath()); err == nil {
		d := socketDir{path: strings.TrimSpace(string(b)), short: true}
		if isShort(d.path) && d.claim(a) == nil {
			return d, nil
		}
	}
	var failed error
	for _, base := range shortBases(a) {
		path, err := os.MkdirTemp(base, shortPrefix)
		if err != nil {
			failed = err
			continue
		}
		d := socketDir{path: path, short: true}
		if err := a.own(path); err != nil {
			return d, err
		}
		return d, writeFile(l.socketPath(), path+"\n", 0, false)
	}
	return socketDir{}, fmt.Errorf("cannot make a short folder for the socket: %w", failed)
}

// isShort tells a folder that we made outside of the server's, and may delete.
func isShort(path string) bool { return strings.HasPrefix(filepath.Base(path), shortPrefix) }

// shortBases are the places for a short folder. /run is root's alone and is
// never swept; it may be read-only for a confined service.
func shortBases(a account) []string {
	if a.switchUser {
		return []string{"/run", "/tmp"}
	}
	return []string{"/tmp"}
}

// claim takes a remembered folder again. Anyone can make folders in /tmp, so one
// that exists counts only if it is a real folder, closed, and the right user's.
func (d socketDir) claim(a account) error {
	err := os.Mkdir(d.path, 0o700)
	if err == nil {
		return a.own(d.path)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(d.path)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.IsDir() || fi.Mode().Perm() != 0o700 || int(st.Uid) != a.uid {
		return fmt.Errorf("%s is not ours", d.path)
	}
	return nil
}

// clear removes what a killed server left. Its lock file names a process id that
// somebody else may have by now, and then PostgreSQL would refuse to start.
func (d socketDir) clear() error {
	for _, path := range []string{d.file(), d.file() + ".lock"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// remove deletes a short folder; one inside the server's folder stays.
func (d socketDir) remove() {
	if d.short && d.clear() == nil {
		// It can only fail if somebody else put something there.
		_ = os.Remove(d.path)
	}
}
