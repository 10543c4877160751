package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
)

// refusals are in Terraform's words, and OpenTofu's: a state that will never be
// taken, because a newer one was saved meanwhile, or because it belongs to
// something else.
var refusals = []string{"cannot import state with lineage", "cannot import state with serial", "cannot overwrite existing state with serial"}

// saveErroredState saves the state that an earlier run could not save.
func (w *Workspace) saveErroredState(ctx context.Context) error {
	path := filepath.Join(w.Dir, erroredState)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var state struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(data, &state) != nil || state.Version == 0 { // it was killed while it wrote
		return w.setAside(path, errors.New("it is damaged"))
	}
	push := func(lockTimeout string) error {
		return w.run(ctx, w.lines(nil), func(ctx context.Context) error {
			return w.tf.StatePush(ctx, erroredState, tfexec.Lock(true), tfexec.LockTimeout(lockTimeout))
		})
	}
	err = push("0s")
	if err != nil {
		if held, ok := lockIn([]string{err.Error()}); ok && ctx.Err() == nil {
			w.breakLock(ctx, held)
			err = push(w.lockTimeout())
		}
	}
	switch {
	case err == nil:
		w.log("The state that an earlier run could not save is saved now.")
		return os.Remove(path)
	case slices.ContainsFunc(refusals, func(r string) bool { return strings.Contains(err.Error(), r) }):
		// What only this one knows is found by a sweep.
		return w.setAside(path, err)
	default:
		// Without it, Terraform would not know machines that it has made.
		return fmt.Errorf("the state of an earlier run, %s, could still not be saved: %w", path, err)
	}
}

// setAside keeps a state for whoever may need it.
func (w *Workspace) setAside(path string, why error) error {
	aside := fmt.Sprintf("%s.%s-%s", w.Dir, erroredState, time.Now().UTC().Format("20060102T150405.000"))
	w.log("An earlier state could not be saved, and is now " + aside + ": " + why.Error())
	return errors.Join(os.Chmod(path, 0o600), os.Rename(path, aside))
}
