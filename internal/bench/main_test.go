//go:build linux

package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var agentsFlag = flag.Int("agents", 15_000, "VMs that wait at once in the benchmarks")

// roleVariable makes the test binary be another program: the bare server.
const roleVariable = "BENCH_ROLE"

// table collects what the benchmarks of this run found.
var table = report{title: "LabLink beside the least that this machine can do:"}

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "bare" {
		if err := serveBare(); err != nil {
			fmt.Fprintln(os.Stderr, "bare server:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	code := m.Run()
	table.print(os.Stdout)
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a temporary folder
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// scale is how much is measured.
type scale struct {
	agents    int
	keepalive time.Duration
	samples   int           // of latency
	levels    []int         // how many participants ask at the same moment
	rounds    int           // of each level, each beside its floor: disks have moods, the median counts
	level     time.Duration // of each round
	repeat    int           // of starts
	vms       int           // of a launch
	stored    []int         // lines that a log has already
	posts     int           // of 50 lines, to each
}

func full() scale {
	return scale{
		agents: *agentsFlag, keepalive: 25 * time.Second, samples: 1000,
		levels: []int{1, 8, 32}, rounds: 3, level: 2 * time.Second, repeat: 3, vms: 50,
		stored: []int{0, 10_000, 100_000, 1_000_000}, posts: 300,
	}
}

func tiny() scale {
	return scale{
		agents: 50, keepalive: time.Second, samples: 10,
		levels: []int{1, 4}, rounds: 1, level: 200 * time.Millisecond, repeat: 1, vms: 2,
		stored: []int{0, 200}, posts: 5,
	}
}

// needFiles raises the limit of open files, which child processes inherit: each
// waiting VM is one here and one in the server.
func needFiles(tb testing.TB, agents int) {
	tb.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		tb.Fatal(err)
	}
	if most := int(limit.Max) - 500; agents > most {
		tb.Fatalf("a process may open %d files here: measure with at most -agents %d", limit.Max, most)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		tb.Fatal(err)
	}
}

// pause lets time pass, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// until asks done every 20 ms. Slowness is no failure, but what takes minutes
// does not work.
func until(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for !done() {
		if pause(ctx, 20*time.Millisecond) != nil {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// percentile sorts the values.
func percentile(values []time.Duration, p float64) time.Duration {
	slices.Sort(values)
	return values[min(len(values)-1, int(p*float64(len(values))))]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
