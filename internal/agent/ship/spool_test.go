package ship

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lablink/internal/wire"
)

// newSpoolMachine is a machine whose log is a spool of 10 KiB in segments of 1 KiB.
func newSpoolMachine(t *testing.T, a *allocator) (*machine, func() *Spool) {
	m := newMachine(t, a)
	dir := filepath.Join(filepath.Dir(m.log), "spool")
	m.cfg.Sources = []Source{{Name: "agent", Path: dir, Spool: true}}
	return m, func() *Spool {
		s := NewSpool(dir)
		s.segment, s.together = 1<<10, 10<<10
		t.Cleanup(s.Close)
		return s
	}
}

func put(t *testing.T, s *Spool, text string) {
	t.Helper()
	if n, err := s.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("%d of %d bytes: %v", n, len(text), err)
	}
}

func TestSpool_Restarts(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m, open := newSpoolMachine(t, a)
	var want []string
	for life := range 5 {
		stop := m.start()
		s := open()
		for n := range 100 { // more than a segment, in pieces that end anywhere
			line := fmt.Sprintf("line %d of %d", n, life)
			put(t, s, line[:n%7])
			put(t, s, line[n%7:]+"\n")
			want = append(want, line)
		}
		if life%2 == 0 {
			a.wants(want...)
		}
		stop()
		s.Close()
	}
	m.start()
	a.wants(want...)
}

// While nothing is taken the oldest goes, and how much that is gets told.
func TestSpool_Full(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m, open := newSpoolMachine(t, a)
	s := open()
	put(t, s, "first\n")
	m.start()
	a.wants("first")
	a.answers(func(wire.LogBatch) error { return refusal(503) })
	put(t, s, "second\n")
	a.try()
	written := 0
	for n := range 10_000 {
		line := fmt.Sprintf("line %d\n", n)
		put(t, s, line)
		written += len(line)
	}
	on, err := filepath.Glob(filepath.Join(m.cfg.Sources[0].Path, "*"))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, path := range on {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 10<<10 {
		t.Errorf("the spool has %d bytes", size)
	}
	a.answers(nil)
	a.until("last line", func() bool { return a.lines[len(a.lines)-1] == "line 9999" })
	a.mu.Lock()
	defer a.mu.Unlock()
	got := len(strings.Join(a.lines[2:], "\n")) + 1
	gap := slices.IndexFunc(a.lines, func(l string) bool { return strings.HasPrefix(l, "[lablink: ") })
	if gap < 0 {
		t.Fatalf("nothing is said of what is missing: %q ...", a.lines[:5])
	}
	got -= len(a.lines[gap]) + 1
	if want := fmt.Sprintf("[lablink: %d bytes are missing here: ", written-got); !strings.HasPrefix(a.lines[gap], want) {
		t.Errorf("it says %q, want %q", a.lines[gap], want)
	}
	for i := gap + 2; i < len(a.lines); i++ {
		var before, n int
		if _, err := fmt.Sscanf(a.lines[i-1]+" "+a.lines[i], "line %d line %d", &before, &n); err != nil || n != before+1 {
			t.Fatalf("%q follows %q", a.lines[i], a.lines[i-1])
		}
	}
}

// A burst is not slower than it is read, and the memory for it is bounded by the
// size of a batch.
func TestSpool_Burst(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	const lines = 50_000
	var text strings.Builder
	want := make([]string, lines)
	for n := range want {
		want[n] = fmt.Sprintf("%d %s", n, strings.Repeat("x", n%300))
		text.WriteString(want[n] + "\n")
	}
	m.start()
	m.write(text.String())
	a.wants(want...)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.batches {
		size := 0
		for _, e := range b.Events {
			size += len(e.Message)
		}
		if len(b.Events) > maxEvents || size > maxBytes+maxLine {
			t.Fatalf("a batch has %d events of %d bytes", len(b.Events), size)
		}
	}
}

// After a power cut a segment may be shorter than what was sent of it.
func TestSpool_PowerCut(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m, open := newSpoolMachine(t, a)
	s := open()
	put(t, s, "one\ntwo\n")
	stop := m.start()
	a.wants("one", "two")
	stop()
	s.Close()
	segment, err := filepath.Glob(filepath.Join(m.cfg.Sources[0].Path, "*"))
	if err != nil || len(segment) != 1 {
		t.Fatal(segment, err)
	}
	if err := os.Truncate(segment[0], 4); err != nil {
		t.Fatal(err)
	}
	put(t, open(), "new\n")
	m.start()
	a.wants("one", "two", "new")
}
