package provision

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"time"
)

// run calls f, which runs Terraform. Its output goes to out, or nowhere if that
// is nil; what it says on standard error goes to the log in any case. When f
// fails, or ctx ends, nothing that Terraform has started is left afterwards. An
// error is a *runError.
func (w *Workspace) run(ctx context.Context, out *lineWriter, f func() error) error {
	// terraform-exec goes on writing to the last command's writers until others are set.
	w.tf.SetStdout(io.Discard)
	if out != nil {
		w.tf.SetStdout(out)
	}
	errOut := w.lines(nil)
	w.tf.SetStderr(errOut)

	ended := make(chan struct{})
	overdue := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(overdue)
		select {
		case <-ended:
		case <-time.After(w.Grace):
			// terraform-exec reads until the last process has closed the pipe, whoever that is.
			w.reap()
		}
	})
	err := f()
	close(ended)
	if !stop() {
		<-overdue
	}
	if err != nil || ctx.Err() != nil {
		// terraform-exec abandons a process, too, if ctx ends in the instant of its start.
		w.reap()
	}
	if out != nil {
		out.flush()
	}
	errOut.flush()
	if err == nil {
		return nil
	}
	return w.newRunError(ctx, err)
}

func (w *Workspace) reap() {
	if err := reap(w.Dir); err != nil {
		w.log("What Terraform has started could not be ended: " + err.Error())
	}
}

// log hands a line on, from one goroutine at a time: Terraform has two streams.
func (w *Workspace) log(line string) {
	w.logging.Lock()
	defer w.logging.Unlock()
	w.Log(line)
}

// runError is how a run of Terraform has failed, in words that may be shown. It
// is of the kinds that the original is, but does not give that away: it may hold
// secrets, and all that Terraform wrote to standard error.
type runError struct {
	text  string
	cause error
}

// Error implements error.
func (e *runError) Error() string { return e.text }

// Is reports whether the run failed for this reason.
func (e *runError) Is(target error) bool { return errors.Is(e.cause, target) }

func (w *Workspace) newRunError(ctx context.Context, err error) *runError {
	// When ctx has ended, terraform-exec returns an error that says so and holds that of the process, even if
	// there is none: then it panics when asked for its text.
	if errors.Is(err, context.Canceled) && errors.Unwrap(err) == nil {
		err = ctx.Err()
	}
	// After its exit status follows what it said. If it said something, the usual one tells nothing.
	text := strings.TrimSpace(err.Error())
	return &runError{text: w.tidy(strings.TrimPrefix(text, "exit status 1\n")), cause: err}
}

// broke reports whether Terraform ended in another way than by telling errors:
// it was killed, or crashed.
func (e *runError) broke() bool {
	exit, ok := errors.AsType[*exec.ExitError](e.cause)
	return ok && exit.ExitCode() != 1
}

// tidy makes a text fit to be shown, and kept.
func (w *Workspace) tidy(text string) string {
	return shorten(w.mask.hide(clean(text)), maxReason)
}
