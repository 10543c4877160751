package provision_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lablink/internal/provision"
)

// shown is a plan as "tofu show" prints it. It makes vm-1.
const shown = `{"format_version":"1.2","resource_changes":[
	{"address":"a.b[\"vm-1\"]","mode":"managed","type":"a","name":"b","index":"vm-1","change":{"actions":["create"]}}]}`

// planned is a fake workspace that has planned to make vm-1, and is about to run
// a script to apply that.
func planned(t *testing.T, script string) (*provision.Workspace, *output, *provision.Plan) {
	t.Helper()
	w, out := fake(t, map[string]string{"apply.sh": script, "show.sh": "cat <<'E'\n" + shown + "\nE\n"})
	open(t, w)
	return w, out, plan(t, w, 1)
}

// stopping runs an apply, and ends its context as soon as it says that it runs.
func stopping(t *testing.T, w *provision.Workspace, out *output, p *provision.Plan) (took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := w.Apply(ctx, p, func(provision.Event) {})
		done <- err
	}()
	out.await(t, "it runs")
	began := time.Now()
	cancel()
	select {
	case err = <-done:
	case <-time.After(patience):
		t.Fatalf("apply did not return; its output:\n%s", out.text())
	}
	if left := marked(t, w.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	return time.Since(began), err
}

func TestApply_StoppedBeforeGraceIsOver(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"ends with its error":   `trap 'echo saved; kill $!; exit 1' INT; sleep 1000 & echo it runs; wait`,
		"ends as if it was all": `trap 'echo saved; kill $!; exit 0' INT; sleep 1000 & echo it runs; wait`,
		"leaves a child behind": `trap 'echo saved; exit 1' INT; sleep 1000 >/dev/null 2>&1 & echo it runs; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, out, p := planned(t, script)
			_, err := stopping(t, w, out, p)
			if !errors.Is(err, context.Canceled) || err.Error() == "" {
				t.Errorf("error: %v", err)
			}
			if !strings.Contains(out.text(), "saved") {
				t.Errorf("it had no time to save its state:\n%s", out.text())
			}
		})
	}
}

func TestApply_KilledAfterGrace(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"ignores the interrupt":                 `trap '' INT; echo it runs; while :; do sleep 1000; done`,
		"a child holds its output":              `trap 'exit 1' INT; (trap '' INT TERM; sleep 1000) & echo it runs; wait`,
		"a child in a session of its own":       `trap 'exit 1' INT; setsid sleep 1000 & echo it runs; wait`,
		"it is gone, and a child holds all":     `setsid sh -c 'echo it runs; sleep 1000' & exit 0`,
		"it floods its output":                  `trap '' INT; echo it runs; yes '{"@message":"noise","type":"log"}'`,
		"it floods its standard error":          `trap '' INT; echo it runs; while :; do echo noise >&2; done`,
		"children of children, and one stopped": `trap '' INT; sh -c 'sh -c "sleep 1000; :" & kill -STOP $$; :' & echo it runs; wait; sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, out, p := planned(t, script)
			w.Grace = 300 * time.Millisecond
			took, err := stopping(t, w, out, p)
			if err == nil && name != "it is gone, and a child holds all" {
				t.Error("no error")
			}
			if took < w.Grace {
				t.Errorf("it was killed after %v, before %v were over", took, w.Grace)
			}
		})
	}
}

// Every command ends with its context, not only the long ones.
func TestWorkspace_EveryCommandIsStopped(t *testing.T) {
	t.Parallel()
	const hangs = `echo it runs >&2; trap '' INT; sleep 1000`
	for _, command := range []string{"version", "init", "state_push", "plan", "show"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			w, out := fake(t, map[string]string{command + ".sh": hangs})
			w.Grace = 100 * time.Millisecond
			if command == "state_push" {
				if err := w.PlaceModule(); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(w.Dir, "errored.tfstate"), `{"version":4}`)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				err := w.Open(ctx)
				if err == nil {
					_, err = w.Plan(ctx, nil, nil, isVM)
				}
				done <- err
			}()
			out.await(t, "it runs")
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("error: %v", err)
			}
			if left := marked(t, w.Dir); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			if command == "state_push" && !exists(filepath.Join(w.Dir, "errored.tfstate")) {
				t.Error("the state is lost")
			}
		})
	}
}

// However near to the start of a process the end comes: nothing is left of it, nor
// of what watches it, which the end of all tests looks at.
func TestPlan_StoppedAtAnyInstant(t *testing.T) {
	t.Parallel()
	w, _ := fake(t, map[string]string{"plan.sh": `trap "exit 1" INT; sleep 1000 >/dev/null 2>&1 & wait`})
	open(t, w)
	for after := range 30 {
		ctx, cancel := context.WithCancel(t.Context())
		instant := time.AfterFunc(time.Duration(after)*200*time.Microsecond, cancel)
		if _, err := w.Plan(ctx, nil, nil, isVM); !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
		instant.Stop()
		cancel()
		if left := marked(t, w.Dir); len(left) > 0 {
			t.Fatalf("processes are left: %v", left)
		}
	}
}

// A plan that is stopped and has the exit code of one with changes is no error to
// terraform-exec.
func TestPlan_StoppedAtItsEnd(t *testing.T) {
	t.Parallel()
	w, out := fake(t, map[string]string{"plan.sh": `trap 'exit 2' INT; setsid sleep 1000 >/dev/null 2>&1 & echo it runs; wait`})
	open(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Plan(ctx, nil, nil, isVM)
		done <- err
	}()
	out.await(t, "it runs")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if left := marked(t, w.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestApply_ContextHasEnded(t *testing.T) {
	t.Parallel()
	w, out, p := planned(t, `echo it runs`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Apply(ctx, p, func(provision.Event) {}); !errors.Is(err, context.Canceled) || strings.Contains(out.text(), "it runs") {
		t.Errorf("error: %v", err)
	}
	if _, err := w.Plan(ctx, nil, nil, isVM); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	if err := w.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

// Terraform that crashes, or that the kernel kills, leaves plugins and shells.
func TestApply_Crash(t *testing.T) {
	t.Parallel()
	const reason = `echo '{"@message":"Error: no room","type":"diagnostic","diagnostic":{"severity":"error","summary":"no room","address":"a.b[\"vm-1\"]"}}'; `
	for name, test := range map[string]struct{ script, general string }{
		"an error is no crash": {reason + "exit 1", ""},
		"killed":               {reason + "kill -9 $$", "Terraform did not end by itself: signal: killed"},
		"panics":               {reason + "echo panic: oops >&2; exit 2", "Terraform did not end by itself: exit status 2\npanic: oops"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, p := planned(t, "setsid sleep 1000 >/dev/null 2>&1 & "+test.script)
			_, err := w.Apply(t.Context(), p, func(provision.Event) {})
			failure, ok := errors.AsType[*provision.ApplyError](err)
			if !ok || failure.General != test.general || failure.Reasons["vm-1"] != "no room" {
				t.Errorf("error: %#v", failure)
			}
			if left := marked(t, w.Dir); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
}

// A plan that crashes has the exit code of one with changes. The one before it
// must not be taken for it.
func TestPlan_Crash(t *testing.T) {
	t.Parallel()
	w, _ := fake(t, map[string]string{
		"plan.sh": `[ ! -e crash ] && touch lablink.tfplan || exit 2`,
		"show.sh": "if [ ! -e lablink.tfplan ]; then echo there is no plan >&2; exit 1; fi; cat <<'E'\n" + shown + "\nE\n",
	})
	open(t, w)
	plan(t, w, 1)
	write(t, filepath.Join(w.Dir, "crash"), "")
	vms, tokens := want(1)
	if p, err := w.Plan(t.Context(), vms, tokens, isVM); err == nil || !strings.Contains(err.Error(), "there is no plan") {
		t.Errorf("plan %+v, error %v", p, err)
	}
}

func TestApply_Output(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, logged, err string }{
		"half a message":          {`printf '%s' '{"@message":"half'; exit 1`, `{"@message":"half`, "exit status 1"},
		"only on standard error":  {`echo "Error: the disk is full" >&2; exit 1`, "Error: the disk is full", "Error: the disk is full"},
		"several lines":           {`printf 'Error: one\n\n  two\n' >&2; exit 1`, "  two", "Error: one\n\n  two"},
		"nothing at all":          {`exit 1`, "", "exit status 1"},
		"no end of the last line": {`printf 'done'`, "done", ""},
		"colours":                 {`printf '\033[1;31mred\033[0m\n'`, "red", ""},
		"a line of 10 MB":         {`head -c 10000000 /dev/zero | tr '\0' x; echo; echo and on`, "and on", ""},
		"the URL of the database": {`echo "$PG_CONN_STR"; echo "$PG_CONN_STR refused" >&2; exit 1`, "[secret]", "[secret] refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, out, p := planned(t, test.script)
			_, err := w.Apply(t.Context(), p, func(provision.Event) {})
			if err == nil != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("error: %v, want %s", err, test.err)
			}
			if !strings.Contains(out.text(), test.logged) || strings.Contains(out.text(), "\x1b") || strings.Contains(out.text(), "pass-word") {
				t.Errorf("logged:\n%s", out.text())
			}
		})
	}
}

// What is shown of the plan never reaches the log, nor does a later command
// write to the writer of an earlier one.
func TestPlan_IsNotLogged(t *testing.T) {
	t.Parallel()
	w, out := fake(t, map[string]string{"show.sh": "cat <<'E'\n" + shown + "\nE\n"})
	open(t, w)
	p := plan(t, w, 1)
	apply(t, w, p)
	if text := out.text(); strings.Contains(text, "resource_changes") || strings.Contains(text, "terraform_version") {
		t.Errorf("logged:\n%s", text)
	}
}
