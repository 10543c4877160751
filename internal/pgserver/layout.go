package pgserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// layout names the files in the server's folder.
type layout struct{ dir string }

const stagingPrefix = "initdb-"

func (l layout) data() string         { return filepath.Join(l.dir, "data") }
func (l layout) lock() string         { return filepath.Join(l.dir, "lock") }
func (l layout) passwordFile() string { return filepath.Join(l.dir, "password") }
func (l layout) hba() string          { return filepath.Join(l.dir, "pg_hba.conf") }
func (l layout) ident() string        { return filepath.Join(l.dir, "pg_ident.conf") }
func (l layout) log() string          { return filepath.Join(l.dir, "postgres.log") }
func (l layout) oldLog() string       { return filepath.Join(l.dir, "postgres.log.1") }
func (l layout) socket() string       { return filepath.Join(l.dir, "socket") }
func (l layout) socketPath() string   { return filepath.Join(l.dir, "socket-path") }
func (l layout) versionFile() string  { return filepath.Join(l.data(), "PG_VERSION") }

// own tells whether a name in the folder is one of ours.
func (l layout) own(name string) bool {
	if strings.HasPrefix(name, stagingPrefix) {
		return true
	}
	for _, path := range []string{
		l.data(), l.lock(), l.passwordFile(), l.hba(), l.ident(), l.log(), l.oldLog(), l.socket(), l.socketPath(),
	} {
		// Files are replaced by way of NAME.new.
		if base := filepath.Base(path); name == base || name == base+".new" {
			return true
		}
	}
	return false
}

// check refuses a folder that holds somebody else's files. It changes nothing,
// so that a wrong path on the command line does no harm.
func (l layout) check() error {
	if _, err := l.version(); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := readDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "PG_VERSION" {
			return errors.New("this is the data folder of a PostgreSQL server that LabLink did not make; choose another folder, or use that server through --database-url")
		}
		if !l.own(e.Name()) {
			return fmt.Errorf("the folder is not empty and holds no database of LabLink (it contains %q); it is left as it is: choose an empty folder", e.Name())
		}
	}
	inData, err := readDir(l.data())
	if err != nil {
		return err
	}
	if len(inData) > 0 {
		return fmt.Errorf("%s is not empty but has no PG_VERSION, so it is not a complete PostgreSQL data folder; "+
			"it is left as it is: restore it from a backup, or move it away to start empty", l.data())
	}
	return nil
}

// readDir is os.ReadDir for a folder that may be absent.
func readDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// version is the major version of the cluster, such as "15"; the error is
// fs.ErrNotExist when there is no cluster yet.
func (l layout) version() (string, error) {
	b, err := os.ReadFile(l.versionFile())
	if err != nil {
		return "", err
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return "", fmt.Errorf("%s is empty: the data folder is damaged; restore it from a backup", l.versionFile())
	}
	return v, nil
}

// create makes the folder, or opens an empty one of ours for the server's user.
// Folders above it get 0711: the server's user must be able to pass through them,
// and has no need to list them.
func (l layout) create(a account) error {
	if err := makeParents(filepath.Dir(l.dir)); err != nil {
		return err
	}
	fresh := true
	if err := os.Mkdir(l.dir, 0o700); errors.Is(err, fs.ErrExist) {
		entries, err := os.ReadDir(l.dir)
		if err != nil {
			return err
		}
		fresh = len(entries) == 0
	} else if err != nil {
		return err
	}
	if fresh && a.switchUser {
		// The server's user may pass, others may not.
		if err := os.Chown(l.dir, -1, a.gid); err != nil {
			return err
		}
		if err := os.Chmod(l.dir, 0o710); err != nil { //nolint:gosec // see above
			return err
		}
	}
	return a.checkReach(l.dir)
}

// makeParents is os.MkdirAll with mode 0711 whatever the umask, for what it makes.
func makeParents(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeParents(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o711); err != nil { //nolint:gosec // the server's user must pass
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // the server's user must pass
}

// removeLeftovers deletes clusters whose making was interrupted. They never held
// data: a cluster is moved to its place before it is first started.
func (l layout) removeLeftovers(log *slog.Logger) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingPrefix) {
			if err := os.RemoveAll(filepath.Join(l.dir, e.Name())); err != nil {
				log.Warn("cannot remove an unfinished initdb", "error", err)
			}
		}
	}
}

// writeAuth writes who may connect; the package comment explains the choice.
// The files lie outside the cluster, so that the server cannot change them.
func (l layout) writeAuth(a account) error {
	const note = "# Written by LabLink at every start: changes here are lost.\n"
	hba := note +
		"local  all          " + superuser + "  peer map=lablink\n" +
		"local  replication  " + superuser + "  peer map=lablink\n" +
		"local  all          all       scram-sha-256\n" //nolint:dupword // databases and users
	// A name in quotes is taken as it is, without special words or characters.
	ident := note + fmt.Sprintf("lablink  %s  %s\n", `"`+strings.ReplaceAll(a.callerName, `"`, `""`)+`"`, superuser)
	for path, text := range map[string]string{l.hba(): hba, l.ident(): ident} {
		if err := writeFile(path, text, a.gid, a.switchUser); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces a file at once, readable by its owner and, if shared, by the
// server's group.
func writeFile(path, text string, gid int, shared bool) error {
	tmp := path + ".new"
	// A leftover of a killed program may have another owner or mode.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if shared {
		if err := errors.Join(f.Chown(-1, gid), f.Chmod(0o640)); err != nil {
			return err
		}
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// password returns the stored password of the role, or makes one.
func (l layout) password() (string, error) {
	pass, err := readPassword(l.passwordFile())
	if !errors.Is(err, fs.ErrNotExist) {
		return pass, err
	}
	pass = rand.Text()
	return pass, writeFile(l.passwordFile(), pass+"\n", 0, false)
}

func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	pass := strings.TrimSpace(string(b))
	// The password stands in an SQL statement and in a URL; ours are letters and
	// digits only.
	if pass == "" || strings.Trim(pass, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", fmt.Errorf("%s does not hold a password made by LabLink; delete the file and a new one will be made", path)
	}
	return pass, nil
}

// lockFile takes the folder for this program. The lock is the kernel's, so it
// ends with the program however that ends, and the server does not inherit it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		b := make([]byte, 20)
		n, _ := f.ReadAt(b, 0)
		pid := strings.TrimSpace(string(b[:n]))
		if pid == "" {
			pid = "unknown"
		}
		return nil, fmt.Errorf("%w, pid %s", ErrInUse, pid)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ErrInUse is returned by Start when another live program holds the folder.
var ErrInUse = errors.New("another lablink serve uses this folder")
