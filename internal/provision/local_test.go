package provision_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/provision"
	"lablink/internal/testkit"
)

// The whole of it: Terraform makes and destroys machines whose agents call, and
// a sweep finds those that it does not know.
func TestLocal(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, binary, databaseURL string) {
		calls := make(chan string, 100)
		allocator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case calls <- r.Header.Get("Authorization"):
			default:
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		t.Cleanup(allocator.Close)
		folder := filepath.Join(t.TempDir(), "machines")
		t.Cleanup(func() { sweep(t, folder) })
		w, out := workspace(t, binary, nil, backend(t, databaseURL))
		w.Provider = provision.Local(provision.LocalOptions{
			Lablink: testkit.Program(t), StartHost: "/bin/false", Folder: folder, Allocator: allocator.URL, Software: "",
		})
		open(t, w)
		e, machines := apply(t, w, plan(t, w, 1, 2))
		if e.String() != "vm-1: begun created; vm-2: begun created" || names(machines) != "vm-1 vm-2" || machines["vm-1"].Address != "127.0.0.1" {
			t.Errorf("events: %s; machines: %v", e, machines)
		}
		called := map[string]bool{}
		for deadline := time.After(patience); len(called) < 2; {
			select {
			case c := <-calls:
				called[c] = true
			case <-deadline:
				t.Fatalf("of two agents, called have %v", called)
			}
		}
		if !called["Bearer "+token+"-1"] || !called["Bearer "+token+"-2"] {
			t.Errorf("called have %v", called)
		}
		of := func(n int) *machine { return &machine{t: t, folder: folder, hostname: fmt.Sprintf("vm-%d", n)} }
		first := of(1).agent()

		// A new token for a VM that is there changes nothing.
		if p := plan(t, w, 1, 2); !p.Empty() {
			t.Errorf("plan of what is there: %+v", p)
		}
		w.Provider.Inputs["allocator_url"], w.Provider.Inputs["software"] = "http://moved.example", "sleap"
		vms, _ := want(1)
		vms["vm-1"] = provision.VM{InstanceType: "large"}
		p, err := w.Plan(t.Context(), vms, nil, isVM)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Unasked(nobody, true); !slices.Equal(got, []string{"vm-2"}) || p.Creates("vm-1") {
			t.Errorf("a VM would be touched because something has moved: %+v", p)
		}
		if e, _ = apply(t, w, p); e.String() != "vm-2: begun destroyed" || len(of(2).agents()) > 0 || exists(of(2).home()) || of(1).agent() != first {
			t.Errorf("events: %s", e)
		}

		// Without a token nothing is made, and the reason says so.
		e = &events{}
		vms, _ = want(1, 3)
		if p, err = w.Plan(t.Context(), vms, nil, isVM); err != nil {
			t.Fatal(err)
		}
		_, err = w.Apply(t.Context(), p, e.add)
		if failure, ok := errors.AsType[*provision.ApplyError](err); !ok || !strings.Contains(failure.Reasons["vm-3"], "VM_TOKEN") {
			t.Errorf("error: %v", err)
		}
		if strings.Contains(out.text(), token) {
			t.Errorf("a token is in the output:\n%s", out.text())
		}
		if found := sweep(t, folder, "vm-1"); !slices.Equal(found, []string{"vm-1", "vm-3"}) || exists(of(3).home()) || of(1).agent() != first {
			t.Errorf("the sweep has found %v", found)
		}
	})
}

func TestLocal_Inventory(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	two := *m
	two.hostname = "lablink-client-2"
	m.run("start")
	two.run("start")
	for _, dir := range []string{"lost+found", "lablink-client-3/state", "Notes"} { // the third is empty: a start was killed early
		if err := os.MkdirAll(filepath.Join(m.folder, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(m.folder, "lablink-client-4"), "a file")
	all := []string{"lablink-client-1", "lablink-client-2", "lablink-client-3"}
	if found := sweep(t, m.folder, all...); !slices.Equal(found, all) {
		t.Errorf("found: %v", found)
	}
	two.agent()
	if found := sweep(t, m.folder, "lablink-client-2"); !slices.Equal(found, all) {
		t.Errorf("found: %v", found)
	}
	two.agent()
	var left []string
	entries, err := os.ReadDir(m.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"Notes", "lablink-client-2", "lablink-client-4", "lost+found"}; !slices.Equal(left, want) || len(m.agents()) > 0 {
		t.Errorf("left are %v and processes %v", left, m.agents())
	}
	if found := sweep(t, filepath.Join(m.folder, "none")); found != nil {
		t.Errorf("found: %v", found)
	}
	// One that cannot be made says so.
	p := provision.Local(provision.LocalOptions{Folder: filepath.Join(m.folder, "lablink-client-4")})
	if _, err := p.Cloud.Inventory(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error: %v", err)
	}
}
