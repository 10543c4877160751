package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lablink/internal/agent/crd"
	"lablink/internal/wire"
)

func TestRestart_RepeatedDeliveryRunsOnce(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	stop := v.start()
	next(t, f.polls, "poll").reply(delivery(9, "4/0once"))
	first := next(t, f.results, "result")
	// Again, to the same agent and to the next one.
	next(t, f.polls, "poll").reply(delivery(9, "4/0once"))
	second := next(t, f.results, "result")
	next(t, f.polls, "poll")
	stop()
	v.start()
	next(t, f.polls, "poll").reply(delivery(9, "4/0once"))
	third := next(t, f.results, "result")
	if first.Result != wire.ResultConnected || first != second || first != third {
		t.Errorf("results %+v, %+v, %+v", first, second, third)
	}
	if n := v.codesUsed(); n != 1 {
		t.Errorf("start-host redeemed %d codes", n)
	}
	v.noSecrets("0once")
}

func TestRestart_RepeatedFailureIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.program("start-host", `echo x >> "$HOME/runs"; echo "Couldn't start host: OAuth error."; exit 1`)
	v.start()
	for range 3 {
		next(t, f.polls, "poll").reply(delivery(9, "4/0once"))
		if got := next(t, f.results, "result"); got.Reason != crd.ReasonCode {
			t.Errorf("result %+v", got)
		}
	}
	if got := v.read(filepath.Join(v.home, "runs")); got != "x\n" {
		t.Errorf("start-host ran %d times", len(got)/2)
	}
}

// A database made anew counts from 1 again.
func TestRestart_SameNumberOtherCode(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	for _, code := range []string{"4/0first", "4/0second"} {
		next(t, f.polls, "poll").reply(delivery(1, code))
		if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
			t.Errorf("%+v", got)
		}
	}
	if n := v.codesUsed(); n != 2 {
		t.Errorf("%d codes were redeemed, want 2", n)
	}
}

func TestRestart_WhileStartHostRuns(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before, result, reason string
	}{
		"before Google took the code": {"", wire.ResultFailed, reasonRestarted},
		"after the host configuration was written": {
			`d="$HOME/.config/chrome-remote-desktop"; mkdir -p "$d"; echo new > "$d/host#1.json"; `, wire.ResultConnected, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAllocator(t)
			v := newVM(t, f)
			// The last participant's configuration does not count as this one's.
			old := filepath.Join(v.home, ".config", "chrome-remote-desktop")
			if err := os.MkdirAll(old, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(old, "host#1.json"), []byte("of the last one"), 0o600); err != nil {
				t.Fatal(err)
			}
			begun := v.fifo("begun")
			good := v.read(v.cfg.StartHost)
			v.program("start-host", tc.before+`echo > "$HOME/begun"; exec sleep 600`)
			stop := v.start()
			next(t, f.polls, "poll").reply(delivery(4, "4/0good"))
			v.read(begun)
			stop()
			if len(f.results) != 0 {
				t.Errorf("reported while stopping: %+v", <-f.results)
			}
			v.noSecrets("0good")
			if err := os.WriteFile(v.cfg.StartHost, []byte(good), 0o755); err != nil {
				t.Fatal(err)
			}

			v.start()
			want := wire.ResultRequest{Hostname: testHost, Delivery: 4, Result: tc.result, Reason: tc.reason}
			if got := next(t, f.results, "result before the first poll"); got != want {
				t.Errorf("result %+v, want %+v", got, want)
			}
			next(t, f.polls, "poll").reply(delivery(4, "4/0good"))
			if got := next(t, f.results, "result"); got != want {
				t.Errorf("repeated: %+v, want %+v", got, want)
			}
			if n := v.codesUsed(); n != 0 {
				t.Errorf("the delivery ran again")
			}
		})
	}
}

func TestRestart_ResultThatWasNotAnswered(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	codes := make([]int, 10_000)
	for i := range codes {
		codes[i] = 503
	}
	f.refuseNext(wire.PathCRDResult, codes...)
	stop := v.start()
	next(t, f.polls, "poll").reply(delivery(2, "4/0good"))
	next(t, f.results, "refused result")
	stop()
	f.mu.Lock()
	f.refuse = map[string][]int{}
	f.mu.Unlock()
	for len(f.results) > 0 {
		<-f.results
	}
	v.start()
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected || got.Delivery != 2 {
		t.Errorf("result %+v", got)
	}
	next(t, f.polls, "poll")
	if !strings.Contains(v.state(), `"reported": true`) {
		t.Errorf("state:\n%s", v.state())
	}
}

// An allocator that cannot take a result must not keep the VM from polling.
func TestAgent_ResultThatIsNeverTaken(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.Report = time.Second
	codes := make([]int, 10_000)
	for i := range codes {
		codes[i] = http.StatusInternalServerError
	}
	f.refuseNext(wire.PathCRDResult, codes...)
	v.start()
	next(t, f.polls, "poll").reply(delivery(2, "4/0good"))
	p := next(t, f.polls, "poll, although the result was not taken")
	if !strings.Contains(v.log.String(), "has not taken the result") || strings.Contains(v.state(), `"reported": true`) {
		t.Errorf("log:\n%s\nstate:\n%s", v.log, v.state())
	}
	f.mu.Lock()
	f.refuse = map[string][]int{}
	f.mu.Unlock()
	for len(f.results) > 0 {
		<-f.results
	}
	p.reply(delivery(2, "4/0good"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected || got.Delivery != 2 {
		t.Errorf("result %+v", got)
	}
	next(t, f.polls, "poll")
	if n := v.codesUsed(); n != 1 || !strings.Contains(v.state(), `"reported": true`) {
		t.Errorf("%d codes were redeemed; state:\n%s", n, v.state())
	}
}

func TestRestart_StateFile(t *testing.T) {
	t.Parallel()
	t.Run("is private, and damage is survived", func(t *testing.T) {
		t.Parallel()
		f := newAllocator(t)
		v := newVM(t, f)
		stop := v.start()
		next(t, f.polls, "poll").reply(delivery(2, "4/0good"))
		next(t, f.results, "result")
		next(t, f.polls, "poll")
		stop()
		path := filepath.Join(v.cfg.StateDir, testHost+".json")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("state file: %v, %v", info.Mode(), err)
		}
		if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
			t.Fatal(err)
		}
		v.start()
		next(t, f.polls, "poll").reply(delivery(3, "4/0other"))
		if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
			t.Errorf("result %+v", got)
		}
		if !strings.Contains(v.log.String(), "is damaged") || v.read(path+".damaged") != "{half" {
			t.Errorf("the damage was not set aside:\n%s", v.log)
		}
	})
	t.Run("belongs to one agent at a time", func(t *testing.T) {
		t.Parallel()
		f := newAllocator(t)
		v := newVM(t, f)
		v.start()
		next(t, f.polls, "poll")
		second, err := New(v.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent (process ") {
			t.Errorf("second agent: %v", err)
		}
	})
	t.Run("a full disk does not cost the desktop", func(t *testing.T) {
		t.Parallel()
		f := newAllocator(t)
		v := newVM(t, f)
		v.start()
		p := next(t, f.polls, "poll")
		if err := os.Rename(v.cfg.StateDir, v.cfg.StateDir+".gone"); err != nil {
			t.Fatal(err)
		}
		p.reply(delivery(2, "4/0good"))
		if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
			t.Errorf("result %+v", got)
		}
		if !strings.Contains(v.log.String(), "will not remember") {
			t.Error("nothing in the log")
		}
	})
}

// A start-host that outlived its agent is ended before its outcome is judged;
// another process with its number is not.
func TestRestart_Leftover(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	begun := v.fifo("begun")
	v.program("start-host", `exec 3> "$HOME/begun"; exec sleep 600`)
	stop := v.start()
	next(t, f.polls, "poll").reply(delivery(4, "4/0good"))
	reader, err := os.Open(begun)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	pid := startedPID(t, v)
	since := startOf(pid)
	if since == 0 {
		t.Fatal("start-host has no start time")
	}
	d := &deliveries{log: v.cfg.Log}
	d.stopLeftover(record{PID: pid, PIDSince: since + 1})
	d.stopLeftover(record{PID: 1, PIDSince: startOf(1)})
	if startOf(pid) != since {
		t.Fatal("a process with another start time was ended")
	}
	d.stopLeftover(record{PID: pid, PIDSince: since})
	if _, err := reader.Read(make([]byte, 1)); err == nil {
		t.Error("start-host wrote something")
	}
	if got := next(t, f.results, "result"); got.Result != wire.ResultFailed {
		t.Errorf("result %+v", got)
	}
	stop()
}
