//go:build linux

package bench_test

import (
	"os"
	"strings"
	"testing"
)

// TestSmoke runs every benchmark with a few agents, so that they go on working.
// The figures mean nothing.
func TestSmoke(t *testing.T) {
	var r report
	t.Run("few agents", func(t *testing.T) {
		for name, measure := range map[string]func(testing.TB, *report, scale){
			"memory": measureMemory, "latency": measureLatency, "assign": measureAssign, "restart": measureRestart, "start": measureStart,
			"launch": measureLaunch, "logs": measureLogs,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				measure(t, &r, tiny())
			})
		}
	})
	if t.Failed() {
		return
	}
	if len(r.figures) != 22 {
		t.Errorf("%d figures, want 22", len(r.figures))
	}
	var b strings.Builder
	r.print(&b)
	if strings.Count(b.String(), "\n") != len(r.figures)+3 {
		t.Errorf("the table:\n%s", b.String())
	}
	if testing.Verbose() {
		r.print(os.Stderr)
	}
}
