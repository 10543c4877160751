package jobs_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"lablink/internal/config"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// site is an allocator with the local provider, and where its machines live.
type site struct {
	*testkit.Allocator
	t       *testing.T
	dataDir string
}

func serve(t *testing.T, configure func(*config.Config)) *site {
	t.Helper()
	s := &site{t: t}
	s.Allocator = testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		s.dataDir = c.DataDir
		if configure != nil {
			configure(c)
		}
	}}))
	return s
}

// agents are the hostnames whose agent runs, by its lock file's process.
func (s *site) agents() []string {
	s.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(s.dataDir, "machines", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, dir := range dirs {
		name := filepath.Base(dir)
		pid, err := os.ReadFile(filepath.Join(dir, "state", name+".lock"))
		if err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline")
		if err == nil && strings.Contains(string(args), "--hostname\x00"+name+"\x00") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// fleet are the live VMs by hostname.
func (s *site) fleet() map[string]string {
	s.t.Helper()
	statuses, err := s.Store.Statuses(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	names := map[string]string{}
	for name, status := range statuses {
		names[name] = string(status)
	}
	return names
}

// holds fails unless rows and processes are exactly the VMs of these numbers,
// and all of them wait for participants.
func (s *site) holds(numbers ...int) {
	s.t.Helper()
	want := make([]string, len(numbers))
	for i, n := range numbers {
		want[i] = fmt.Sprintf("lablink-client-%d", n)
	}
	slices.Sort(want)
	testkit.Eventually(s.t, fmt.Sprintf("%v to wait", want), func() bool {
		vms, _, err := s.Store.VMs(s.t.Context(), store.VMFilter{})
		if err != nil {
			s.t.Fatal(err)
		}
		ready := 0
		for _, v := range vms {
			if v.Free() && v.Waiting {
				ready++
			}
		}
		return ready == len(want)
	})
	if rows := slices.Sorted(maps.Keys(s.fleet())); !slices.Equal(rows, want) {
		s.t.Errorf("the fleet is %v, want %v", rows, want)
	}
	if agents := s.agents(); !slices.Equal(agents, want) {
		s.t.Errorf("the agents are %v, want %v", agents, want)
	}
}

func numbers(from, to int) (n []int) {
	for i := from; i <= to; i++ {
		n = append(n, i)
	}
	return n
}

func (s *site) succeeded(op testkit.Operation) testkit.Operation {
	s.t.Helper()
	op = s.Ended(op.ID)
	if op.State != "succeeded" || op.Error != "" || len(op.Hostnames("done")) != len(op.VMs) {
		s.t.Fatalf("operation: %+v\n%s", op, s.output(op.ID))
	}
	return op
}

func (s *site) output(id int64) string {
	s.t.Helper()
	var b strings.Builder
	if err := s.Store.Output(s.t.Context(), id, 0, &b); err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

func TestRunner_TheLifeOfAFleet(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Register("lab-1")
	s.succeeded(s.Launch(20))
	s.succeeded(s.Destroy("lablink-client-3", "lablink-client-5", "lablink-client-7", "lablink-client-11", "lablink-client-20"))
	s.succeeded(s.Launch(5))
	alive := []int{1, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25}
	testkit.Eventually(t, "20 free VMs and the registered one", func() bool {
		n, err := s.Store.FreeCount(t.Context())
		return err == nil && n == 21
	})
	for _, n := range alive {
		if status := s.fleet()[fmt.Sprintf("lablink-client-%d", n)]; status != "running" {
			t.Errorf("VM %d is %q", n, status)
		}
	}
	if got := len(s.agents()); got != 20 {
		t.Errorf("%d agents run", got)
	}
	s.succeeded(s.DestroyAll(20))
	if fleet := s.fleet(); len(fleet) != 1 || fleet["lab-1"] != "running" {
		t.Errorf("left is %v, want the registered machine alone", fleet)
	}
	if agents := s.agents(); len(agents) > 0 {
		t.Errorf("agents are left: %v", agents)
	}
	if strays, err := s.Store.Strays(t.Context(), "local"); err != nil || len(strays) > 0 {
		t.Errorf("strays: %v, %v", strays, err)
	}
}

func TestRunner_TwoAdminsAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *config.Config) { c.Limits.MaxVMs = 10 })
	answers := make([]testkit.Response, 4)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answers[i] = s.Do(t.Context(), testkit.Request{Path: "/api/launch", Admin: true, JSON: map[string]any{"num_vms": 3}})
		})
	}
	wg.Wait()
	accepted := 0
	for _, r := range answers {
		switch r.Status {
		case http.StatusAccepted:
			accepted++
			var op testkit.Operation
			r.JSON(t, &op)
			s.succeeded(op)
		case http.StatusBadRequest:
			if !strings.Contains(r.Body, "limits.max_vms") || !strings.Contains(r.Body, "at most 1") {
				t.Errorf("the refusal does not say the limit: %s", r.Body)
			}
		default:
			t.Errorf("launch: %d %s", r.Status, r.Body)
		}
	}
	if accepted != 3 {
		t.Errorf("%d launches of 3 were accepted, with room for 10", accepted)
	}
	s.holds(numbers(1, 9)...)
}
