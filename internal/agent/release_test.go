package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lablink/internal/agent/crd"
	"lablink/internal/wire"
)

func release(id int64) wire.StartupReply {
	return wire.StartupReply{Status: wire.StatusRelease, Delivery: id}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	// Without anything to clean, after a set-up, and a second time.
	next(t, f.polls, "poll").reply(release(1))
	if got := next(t, f.results, "result"); got != (wire.ResultRequest{Hostname: testHost, Delivery: 1, Result: wire.ResultReleased}) {
		t.Errorf("result %+v", got)
	}
	next(t, f.polls, "poll").reply(delivery(2, "4/0good"))
	next(t, f.results, "result")
	keep := filepath.Join(filepath.Dir(v.hostConfigs()[0]), "other.json")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		next(t, f.polls, "poll").reply(release(3))
		if got := next(t, f.results, "result"); got.Result != wire.ResultReleased || got.Delivery != 3 {
			t.Errorf("result %+v", got)
		}
	}
	next(t, f.polls, "poll")
	left, err := os.ReadDir(filepath.Dir(keep))
	if err != nil || len(left) != 1 || left[0].Name() != "other.json" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRelease_Failures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ script, reason string }{
		"does not stop":       {`echo "Timed out trying to kill daemon process"; exit 1`, crd.ReasonStillRunning},
		"says it still runs":  {`[ "$1" = --stop ] || echo STARTED`, crd.ReasonStillRunning},
		"undeletable":         {`d="$HOME/.config/chrome-remote-desktop"; mkdir -p "$d/host#x.json/full"`, crd.ReasonStillThere},
		"is no program":       {"exec /nonexistent", crd.ReasonStillRunning},
		"hangs":               {"sleep 600", crd.ReasonStillRunning},
		"leads out of $HOME":  {`rm -rf "$HOME/.config"; ln -s "$HOME/../outside" "$HOME/.config"`, crd.ReasonStillThere},
		"floods the terminal": {"exec yes", crd.ReasonStillRunning},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAllocator(t)
			v := newVM(t, f)
			v.cfg.Timing.Stop = 2 * time.Second
			outside := filepath.Join(v.home, "..", "outside", "chrome-remote-desktop", "host#1.json")
			if err := os.MkdirAll(filepath.Dir(outside), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(outside, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			v.program("chrome-remote-desktop", tc.script)
			v.start()
			next(t, f.polls, "poll").reply(release(1))
			if got := next(t, f.results, "result"); got.Result != wire.ResultFailed || got.Reason != tc.reason {
				t.Errorf("result %+v, want the reason %q", got, tc.reason)
			}
			if _, err := os.Stat(outside); err != nil {
				t.Errorf("a file outside of the home: %v", err)
			}
		})
	}
}

// An interrupted clean-up is begun again, not taken for done.
func TestRelease_Interrupted(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	stop := v.start()
	next(t, f.polls, "poll").reply(delivery(2, "4/0good"))
	next(t, f.results, "result")
	good := v.read(filepath.Join(v.sim, "chrome-remote-desktop"))
	begun := v.fifo("begun")
	v.program("chrome-remote-desktop", `echo > "$HOME/begun"; exec sleep 600`)
	next(t, f.polls, "poll").reply(release(3))
	v.read(begun)
	stop()
	if err := os.WriteFile(filepath.Join(v.sim, "chrome-remote-desktop"), []byte(good), 0o755); err != nil {
		t.Fatal(err)
	}
	v.start()
	next(t, f.polls, "poll").reply(release(3))
	if got := next(t, f.results, "result"); got.Result != wire.ResultReleased || got.Delivery != 3 {
		t.Errorf("result %+v", got)
	}
	if left := v.hostConfigs(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
