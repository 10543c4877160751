package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the operating system user that the server runs as.
type account struct {
	name       string
	uid, gid   int
	switchUser bool   // the program is root, the server is not
	callerName string // the user that the program runs as
}

// chooseAccount finds the server's user. PostgreSQL refuses to run as root, so
// root lends the server to somebody: the owner of an existing cluster, else
// "postgres", which the packages make, else "nobody". Other users keep it.
func chooseAccount(l layout) (account, error) {
	euid := os.Geteuid()
	caller, err := user.LookupId(strconv.Itoa(euid))
	if err != nil {
		return account{}, fmt.Errorf("PostgreSQL needs a user with a name, but user id %d is not in the user database: %w", euid, err)
	}
	owner, exists, err := ownerOf(l.data())
	if err != nil {
		return account{}, err
	}
	if _, err := l.version(); errors.Is(err, fs.ErrNotExist) {
		exists = false // an empty folder: initdb's takes its place
	}
	if euid != 0 {
		if exists && owner != euid {
			return account{}, fmt.Errorf("%s belongs to user id %d: run lablink as that user or as root", l.data(), owner)
		}
		return account{name: caller.Username, uid: euid, gid: os.Getegid(), callerName: caller.Username}, nil
	}

	var u *user.User
	switch {
	case exists && owner == 0:
		return account{}, fmt.Errorf("%s belongs to root, and PostgreSQL refuses to run as root: give it to another user, for example by chown -R postgres: %s", l.data(), l.data())
	case exists:
		if u, err = user.LookupId(strconv.Itoa(owner)); err != nil {
			return account{}, fmt.Errorf("owner of %s: %w", l.data(), err)
		}
	default:
		if u, err = user.Lookup("postgres"); err != nil {
			if u, err = user.Lookup("nobody"); err != nil {
				return account{}, errors.New(`PostgreSQL refuses to run as root, and there is neither a user "postgres" nor "nobody": make the user "postgres"`)
			}
		}
	}
	a := account{name: u.Username, switchUser: true, callerName: caller.Username}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return account{}, err
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return account{}, err
	}
	return a, nil
}

func ownerOf(path string) (uid int, exists bool, err error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false, fmt.Errorf("no owner known for %s", path)
	}
	return int(st.Uid), true, nil
}

// own makes a file or folder that we made the account's.
func (a account) own(path string) error {
	if !a.switchUser {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// sysProcAttr starts a program as the account, in a process group of its own.
func (a account) sysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.switchUser {
		// No further groups: the server needs none of what they open.
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// command prepares a program that runs as the account, in dir, and that ends
// together with its children when ctx does.
func (a account) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = childEnv()
	cmd.SysProcAttr = a.sysProcAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// childEnv is all that the programs of PostgreSQL get to see: settings that
// change what they do (PGDATA, PGPORT, ...) and secrets stay outside. Messages
// are in English, because we read some of them.
func childEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, key := range []string{"PATH", "LD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}

// checkReach tells whether the account can work below dir. It tries it, rather
// than to reckon from mode bits, which do not know of access control lists.
func (a account) checkReach(dir string) error {
	if !a.switchUser {
		return nil
	}
	noop, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	// The change of folder happens after the change of user.
	err = a.command(context.Background(), dir, noop).Run()
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot run a program as user %s: %w", a.name, err)
	}
	if rootErr := a.command(context.Background(), "/", noop).Run(); rootErr != nil {
		return fmt.Errorf("cannot run a program as user %s: %w", a.name, rootErr)
	}
	blocked, err := a.blockedAt(dir)
	if err != nil {
		return err
	}
	return fmt.Errorf("PostgreSQL runs as user %s, which may not enter %s: allow it to pass by chmod o+x %s, or choose another data folder", a.name, blocked, blocked)
}

// blockedAt names the uppermost folder on the way to dir that the account may
// not pass, by mode bits; dir itself if they show none.
func (a account) blockedAt(dir string) (string, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	path := "/"
	for part := range strings.SplitSeq(resolved, "/") {
		path = filepath.Join(path, part)
		fi, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		bit := fs.FileMode(0o001)
		switch {
		case int(st.Uid) == a.uid:
			bit = 0o100
		case int(st.Gid) == a.gid:
			bit = 0o010
		}
		if fi.Mode()&bit == 0 {
			return path, nil
		}
	}
	return dir, nil
}
