package probe

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lablink/internal/fleet"
)

// scripts holds the programs of the tests. They are written before any test
// forks, so that none is busy when it is to run.
var scripts string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scripts, err = os.MkdirTemp("", "lablink-probe"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scripts) }()
		for name, body := range map[string]string{
			"healthy":   "echo NVIDIA-SMI 550",
			"failing":   "exit 9",
			"exits-127": "exit 127",
			"hanging":   "sleep 600 & wait",
			"killed":    "kill -9 $$",
		} {
			if err := os.WriteFile(filepath.Join(scripts, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
				panic(err)
			}
		}
		return m.Run()
	}())
}

func TestGPU(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]fleet.Health{
		filepath.Join(scripts, "healthy"):   fleet.Healthy,
		filepath.Join(scripts, "failing"):   fleet.Unhealthy,
		filepath.Join(scripts, "killed"):    fleet.Unhealthy,
		filepath.Join(scripts, "hanging"):   fleet.Unhealthy,
		filepath.Join(scripts, "exits-127"): fleet.NotApplicable,
		filepath.Join(scripts, "absent"):    fleet.NotApplicable,
		"no-such-program-in-path":           fleet.NotApplicable,
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if filepath.Base(name) == "hanging" {
				limit = 50 * time.Millisecond
			}
			g := &GPU{Command: name, Limit: limit}
			for range 2 {
				if got := g.Health(t.Context()); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
}

// A call that cannot even be killed counts as unhealthy, and is not repeated.
func TestGPU_Unkillable(t *testing.T) {
	t.Parallel()
	stuck := make(chan fleet.Health, 1)
	g := &GPU{Command: filepath.Join(scripts, "healthy"), Limit: -time.Second, running: stuck}
	for range 2 {
		if got := g.Health(t.Context()); got != fleet.Unhealthy {
			t.Errorf("%s while it hangs", got)
		}
	}
	g.Limit = time.Minute
	stuck <- fleet.Unhealthy
	g.Health(t.Context())
	if got := g.Health(t.Context()); got != fleet.Healthy {
		t.Errorf("%s once it has ended", got)
	}
}

func TestInUse_LeavesOutOurselves(t *testing.T) {
	t.Parallel()
	name := "lablink-probe-" + fleet.NewPIN()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read line", name) // a child of ours
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if used, err := InUse(t.Context(), name); used || err != nil {
		t.Errorf("InUse = %v, %v", used, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := InUse(ended, name); err == nil {
		t.Error("no error although the context has ended")
	}
}

func TestOurProgram(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want bool
	}{
		{[]string{"/usr/local/bin/lablink", "agent", "--software", "sleap"}, true},
		{[]string{"sudo", "-E", "lablink", "agent", "--software=sleap"}, true},
		{[]string{"lablink", "serve"}, false},
		{[]string{"python3", "sleap", "agent"}, false},
		{nil, false},
	} {
		if got := ourProgram(tc.args); got != tc.want {
			t.Errorf("ourProgram(%q) = %v", tc.args, got)
		}
	}
}

func TestDescends(t *testing.T) {
	t.Parallel()
	parents := map[int32]int32{1: 0, 2: 1, 3: 2, 4: 1, 8: 9, 9: 8}
	for _, tc := range []struct {
		pid, ancestor int32
		want          bool
	}{{3, 1, true}, {3, 3, true}, {4, 2, false}, {1, 3, false}, {8, 1, false}, {77, 1, false}} {
		if got := descends(parents, tc.pid, tc.ancestor); got != tc.want {
			t.Errorf("descends(%d, %d) = %v", tc.pid, tc.ancestor, got)
		}
	}
}
