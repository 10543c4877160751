package provision

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"time"
)

// run calls f, which runs Terraform with the context that it is given. Its output
// goes to out, or nowhere if that is nil; what it says on standard error goes to
// the log in any case. When f fails, or ctx ends, nothing that Terraform has
// started is left afterwards. An error is a *runError.
//
// The context that f gets does not end: terraform-exec, when told to stop a process
// that it is just starting, neither waits for it nor ends what watches it.
func (w *Workspace) run(ctx context.Context, out *lineWriter, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return w.newRunError(ctx, err)
	}
	// terraform-exec goes on writing to the last command's writers until others are set.
	w.tf.SetStdout(io.Discard)
	if out != nil {
		w.tf.SetStdout(out)
	}
	errOut := w.lines(nil)
	w.tf.SetStderr(errOut)

	ended, stopped := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		w.interrupt(ended)
	})
	err := f(context.WithoutCancel(ctx))
	close(ended)
	if !stop() {
		<-stopped
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
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

// interrupt tells Terraform to stop, so that it saves its state, and returns when
// it has ended. When Grace is over before, it is killed with all it has started.
func (w *Workspace) interrupt(ended <-chan struct{}) {
	overdue := time.NewTimer(w.Grace)
	defer overdue.Stop()
	tick := time.NewTicker(interruptEvery)
	defer tick.Stop()
	told := map[int32]bool{} // a second interrupt would have Terraform give up its state
	logged := false
	for {
		// Again and again: it may be about to start, or be the first command of several.
		if err := interruptChildren(w.Dir, told); err != nil && !logged {
			w.log("Terraform could not be interrupted: " + err.Error())
			logged = true
		}
		select {
		case <-ended:
			return
		case <-overdue.C:
			// terraform-exec reads until the last process has closed the pipe, whoever that is.
			w.reap()
			return
		case <-tick.C:
		}
	}
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
	// After its exit status follows what it said. If it said something, the usual one tells nothing.
	text := w.tidy(strings.TrimPrefix(strings.TrimSpace(err.Error()), "exit status 1\n"))
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	return &runError{text: text, cause: err}
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
