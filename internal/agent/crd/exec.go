package crd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	keptOutput = 64 << 10 // bytes of output kept, the last ones: the verdict comes at the end
	maxOutput  = 1 << 20  // a child that prints more has gone mad and is stopped
)

var errRunaway = errors.New("it printed without end")

// call is one run of a program.
type call struct {
	path    string
	args    []string
	stdin   string
	limit   time.Duration
	as      account
	started func(pid int)
}

// result is what a run left behind.
type result struct {
	output string // at most keptOutput bytes, standard output and error together
	code   int    // -1: it did not end by itself
	late   bool   // it ran into its time limit
	err    error  // nil exactly when it exited 0
}

// run executes c in a process group of its own, and kills that whole group
// when the time is up, the context ends or the program fails. After a success
// it leaves the group alone: the remote desktop itself may be in it.
func (c call) run(ctx context.Context) result {
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	cmd, out, err := c.start(limited)
	if err != nil {
		return result{code: -1, err: err}
	}
	if c.started != nil {
		c.started(cmd.Process.Pid)
	}
	err = cmd.Wait()
	r := result{output: out.String(), code: cmd.ProcessState.ExitCode()}
	if r.code == 0 {
		return r // a background process that keeps the output open is no failure
	}
	_ = killGroup(cmd.Process.Pid)
	switch {
	case ctx.Err() != nil:
		r.err = ctx.Err()
	case limited.Err() != nil:
		r.late, r.err = true, fmt.Errorf("not finished after %v", c.limit)
	case out.runaway:
		r.err = errRunaway
	default:
		r.err = err
	}
	return r
}

// start begins the program. One that is just being installed is "busy" for a
// moment: it is tried again.
func (c call) start(ctx context.Context) (cmd *exec.Cmd, out *tail, err error) {
	for range 10 {
		out = &tail{}
		cmd = exec.CommandContext(ctx, c.path, c.args...)
		cmd.Env = c.as.environ()
		cmd.Dir = workDir(c.as.home)
		cmd.Stdin = strings.NewReader(c.stdin)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.as.cred}
		cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
		cmd.WaitDelay = 2 * time.Second
		if err = cmd.Start(); !errors.Is(err, syscall.ETXTBSY) {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	return cmd, out, err
}

func workDir(home string) string {
	if info, err := os.Stat(home); err == nil && info.IsDir() {
		return home
	}
	return "/"
}

func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	buf     bytes.Buffer
	total   int
	cut     bool
	runaway bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.total += len(p)
	if t.total > maxOutput {
		t.runaway = true
		return 0, errRunaway
	}
	t.buf.Write(p)
	if over := t.buf.Len() - keptOutput; over > 0 {
		t.buf.Next(over)
		t.cut = true
	}
	return len(p), nil
}

// String returns what was kept. A first line whose beginning is gone is left
// out: half a secret would no longer be recognised as one.
func (t *tail) String() string {
	s := t.buf.String()
	if t.cut {
		_, s, _ = strings.Cut(s, "\n")
	}
	return s
}

var _ io.Writer = (*tail)(nil)
