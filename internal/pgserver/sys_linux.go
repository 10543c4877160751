package pgserver

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// commandLine is the argument list of a process, empty if it is gone or a zombie.
// It is readable for everyone, unlike /proc/PID/exe and cwd, which root in a
// container without CAP_SYS_PTRACE may not read of another user's process.
func commandLine(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00"), nil
}

// dieWithParent makes the kernel end the process when the thread that started it
// ends: for postgres an immediate shutdown, for initdb the end.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
