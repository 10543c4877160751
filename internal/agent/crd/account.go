package crd

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user who owns the remote desktop.
type account struct {
	name, home string
	root       bool                // the user has number 0, whatever it is called
	cred       *syscall.Credential // nil: the agent's own user
}

// lookup finds the user called name; without one it is the agent's own.
func lookup(name, home string) (account, error) {
	if name == "" {
		return own(home)
	}
	u, err := user.Lookup(name)
	if err != nil {
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			return account{}, fmt.Errorf("there is no user %q on this machine: create it, or name another with --user", name)
		}
		return account{}, fmt.Errorf("looking up user %q: %w", name, err)
	}
	if u.Uid == strconv.Itoa(os.Geteuid()) {
		return account{name: u.Username, home: u.HomeDir, root: u.Uid == "0"}, nil
	}
	if os.Geteuid() != 0 {
		return account{}, fmt.Errorf("only root can run start-host as %q: start the agent as root or as %q", name, name)
	}
	cred, err := credential(u)
	if err != nil {
		return account{}, fmt.Errorf("looking up the groups of user %q: %w", name, err)
	}
	return account{name: u.Username, home: u.HomeDir, root: cred.Uid == 0, cred: cred}, nil
}

// own is the agent's user, with another home if one is given.
func own(home string) (account, error) {
	if home == "" {
		home = os.Getenv("HOME")
	}
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil { // else it has a number, but no name
		name = u.Username
		if home == "" {
			home = u.HomeDir
		}
	}
	if home == "" {
		return account{}, errors.New("the agent has no HOME: set it, or name the desktop's user with --user")
	}
	return account{name: name, home: home, root: os.Geteuid() == 0}, nil
}

func credential(u *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, err
		}
		cred.Groups = append(cred.Groups, uint32(g))
	}
	return cred, nil
}

// passedOn are the variables of the agent that Google's programs may see. The
// agent's own settings, its token among them, are not.
var passedOn = []string{
	"LANG", "LC_ALL", "LC_CTYPE", "TZ",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is the whole environment of a child. DISPLAY is empty, as in the
// command that Google prints: a display would make start-host ask in a window.
func (a account) environ() []string {
	path := os.Getenv("PATH")
	if path == "" || a.cred != nil {
		path = defaultPath
	}
	env := []string{"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "PATH=" + path, "DISPLAY="}
	for _, key := range passedOn {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}
