//go:build !linux

package pgserver

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// commandLine is the argument list of a process, empty if it is gone. ps joins
// the arguments by spaces; of those, only the folder after -D may hold some, and
// our own server has "-c" after it.
func commandLine(pid int) ([]string, error) {
	cmd := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid))
	cmd.Env = childEnv()
	out, err := cmd.Output()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line := strings.TrimSpace(string(out))
	name, rest, found := strings.Cut(line, " -D ")
	if !found {
		return strings.Fields(line), nil
	}
	dir, _, _ := strings.Cut(rest, " -c ")
	return []string{name, "-D", dir}, nil
}

// dieWithParent does nothing here: only Linux has it.
func dieWithParent(*syscall.SysProcAttr) {}
