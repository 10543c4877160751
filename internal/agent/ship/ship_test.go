package ship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lablink/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what must come; it is never waited for in full.
const patience = 30 * time.Second

// allocator takes batches as the real one does: an event of a name that it knows
// is not stored again.
type allocator struct {
	t *testing.T

	mu      sync.Mutex
	known   map[string]bool
	lines   []string
	batches []wire.LogBatch
	answer  func(wire.LogBatch) error // nil: all is stored
	changed chan struct{}             // closed at the next batch
}

func newAllocator(t *testing.T) *allocator {
	return &allocator{t: t, known: map[string]bool{}, changed: make(chan struct{})}
}

// refusal is an answer of that status.
type refusal int

func (r refusal) Error() string { return fmt.Sprintf("status %d", int(r)) }
func (r refusal) Status() int   { return int(r) }

func (a *allocator) send(ctx context.Context, b wire.LogBatch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.batches = append(a.batches, b)
	close(a.changed)
	a.changed = make(chan struct{})
	if a.answer != nil {
		if err := a.answer(b); err != nil {
			return err
		}
	}
	for _, e := range b.Events {
		if !a.known[e.ID] {
			a.known[e.ID] = true
			a.lines = append(a.lines, e.Message)
		}
	}
	return nil
}

func (a *allocator) answers(f func(wire.LogBatch) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

// until waits for what must become true with some batch.
func (a *allocator) until(what string, ok func() bool) {
	a.t.Helper()
	for deadline := time.After(patience); ; {
		a.mu.Lock()
		done, changed := ok(), a.changed
		lines := len(a.lines)
		a.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			a.t.Fatalf("no %s within %v; there are %d lines", what, patience, lines)
		}
	}
}

// try waits for the next batch, whatever the answer.
func (a *allocator) try() {
	a.t.Helper()
	a.mu.Lock()
	before := len(a.batches)
	a.mu.Unlock()
	a.until("try", func() bool { return len(a.batches) > before })
}

// wants waits for as many lines as given, and compares all that came.
func (a *allocator) wants(lines ...string) {
	a.t.Helper()
	a.until("lines", func() bool { return len(a.lines) >= len(lines) })
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.lines, lines) {
		a.t.Fatalf("stored %q\nwant   %q", a.lines, lines)
	}
}

// machine is where a log is written.
type machine struct {
	t   *testing.T
	log string // the file
	cfg Config
}

func newMachine(t *testing.T, a *allocator) *machine {
	dir := t.TempDir()
	m := &machine{t: t, log: filepath.Join(dir, "app.log")}
	m.cfg = Config{
		Dir: filepath.Join(dir, "state"), Hostname: "vm-1", Sources: []Source{{Name: "app", Path: m.log}},
		Send: a.send, Pause: func(int, error) time.Duration { return time.Millisecond },
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Timing: Timing{Look: time.Millisecond, Batch: time.Millisecond, Partial: patience, Settle: 5 * time.Millisecond},
	}
	return m
}

// start ships, until it is stopped or the test ends.
func (m *machine) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Run(ctx, m.cfg)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	m.t.Cleanup(stop)
	return stop
}

func (m *machine) write(text string) {
	m.t.Helper()
	f, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// rename rotates as logrotate does by default.
func (m *machine) rename() {
	m.t.Helper()
	for n := 9; n >= 0; n-- {
		from := m.log
		if n > 0 {
			from = fmt.Sprintf("%s.%d", m.log, n)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", m.log, n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.t.Fatal(err)
		}
	}
}

// copyTruncate rotates as logrotate does with that option.
func (m *machine) copyTruncate() {
	m.t.Helper()
	data, err := os.ReadFile(m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	m.rename()
	if err := os.Rename(m.log+".1", m.log); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.log+".1", data, 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Truncate(m.log, 0); err != nil {
		m.t.Fatal(err)
	}
}

func TestRun_LinesAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	stop := m.start()
	m.write("one\ntw") // the file appears later
	a.wants("one")
	m.write("o\r\n\nthree\n")
	a.wants("one", "two", "", "three")
	m.write("four") // without its end
	stop()
	a.wants("one", "two", "", "three", "four")
	m.write("\nfive\n")
	m.start()
	a.wants("one", "two", "", "three", "four", "", "five")
	if b := a.batches[0]; b.Hostname != "vm-1" || b.Source != "app" || time.Since(b.Events[0].Time.Time) > patience {
		t.Errorf("batch %+v", b)
	}
}

func TestRun_Rotation(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]func(*machine){"renamed": (*machine).rename, "copied and truncated": (*machine).copyTruncate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAllocator(t)
			m := newMachine(t, a)
			var want []string
			add := func(n int) {
				for range n {
					line := fmt.Sprintf("line %d", len(want))
					m.write(line + "\n")
					want = append(want, line)
				}
			}
			stop := m.start()
			add(3)
			a.wants(want...)
			rotate(m)
			add(3)
			a.wants(want...)
			stop() // while nobody looks
			add(2)
			rotate(m)
			add(1)
			rotate(m)
			rotate(m) // an empty one
			add(4)
			rotate(m)
			add(2)
			stop = m.start()
			a.wants(want...)
			// While the allocator takes nothing.
			a.answers(func(wire.LogBatch) error { return refusal(503) })
			add(2000)
			rotate(m)
			add(10)
			a.try()
			rotate(m)
			add(10)
			rotate(m)
			add(1)
			stop()
			m.start()
			a.answers(nil)
			a.wants(want...)
		})
	}
}

// All copies of a log that always says the same are alike. Only the last is one of
// the file that was truncated.
func TestRun_CopiesAlike(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	const beat = "still alive\n"
	var want []string
	for n := range 4 {
		lines := 60 - n
		want = append(want, slices.Repeat([]string{beat[:len(beat)-1]}, lines)...)
		stop := m.start()
		m.write(strings.Repeat(beat, lines-1))
		a.wants(want[:len(want)-1]...)
		stop()
		m.write(beat) // while nobody looks
		m.copyTruncate()
		for old := range n {
			hoursAgo := time.Now().Add(-time.Duration(old+1) * time.Hour)
			if err := os.Chtimes(fmt.Sprintf("%s.%d", m.log, old+2), hoursAgo, hoursAgo); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.start()
	m.write("the end\n")
	a.wants(append(want, "the end")...)
}

func TestRun_DockersFormat(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	const others = `{"log":"no stream","time":"2026-01-31T10:00:00Z"}` + "\n" + `{"log":"not whole` + "\n"
	m.write(`{"log":"\u001b[31mred\r\n","stream":"stderr","time":"2026-01-31T10:00:00.123456789Z"}` + "\n" +
		`{"log":"a \"part\"","stream":"stdout","attrs":{"tag":"x"},"time":"2026-01-31T10:00:01Z"}` + "\n" + others)
	m.start()
	a.wants(append([]string{"\x1b[31mred", `a "part"`}, strings.Split(strings.TrimSuffix(others, "\n"), "\n")...)...)
	if at := a.batches[0].Events[0].Time; !at.Equal(time.Date(2026, 1, 31, 10, 0, 0, 123456789, time.UTC)) {
		t.Errorf("the first line is of %v", at)
	}
}

func TestRun_HostileBytes(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	m.cfg.Secrets = []string{"tok-123456"}
	long := strings.Repeat("x", maxLine)
	m.write("\x00\xff\xfe\x1b[31m\n" + long + "\n" + long + strings.Repeat("y", 10<<20) + "\n" + "token=tok-123456 \n\n")
	m.start()
	a.wants("\x00\ufffd\x1b[31m", long, long+cutMark, "token=[secret] ", "")
}

func TestRun_LineWithoutItsEnd(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	m.cfg.Timing.Partial = 10 * time.Millisecond
	m.write("password: ")
	stop := m.start()
	a.wants("password: ")
	m.write("x\ny\n")
	a.wants("password: ", "x", "y")
	stop()

	// Sent, but its acceptance was not seen: after a restart it is the same event,
	// although more of the line is there by now.
	sent := make(chan struct{})
	var once sync.Once
	stored := a.send
	m.cfg.Send = func(ctx context.Context, b wire.LogBatch) error {
		if err := stored(ctx, b); err != nil {
			return err
		}
		once.Do(func() { close(sent) })
		return errors.New("the answer was lost")
	}
	m.write("half")
	stop = m.start()
	<-sent
	m.write(" and half\n")
	stop()
	m.cfg.Send = stored
	m.start()
	a.wants("password: ", "x", "y", "half", " and half")
}

func TestRun_Refusals(t *testing.T) {
	t.Parallel()
	lines := make([]string, 300)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d", i)
	}
	text := strings.Join(lines, "\n") + "\n"
	t.Run("again and again", func(t *testing.T) {
		t.Parallel()
		a := newAllocator(t)
		tries := 0
		a.answer = func(wire.LogBatch) error {
			tries++
			if codes := []int{0, 503, 429, 401, 403, 404, 500, 302, 408}; tries < len(codes) {
				return refusal(codes[tries])
			}
			return nil
		}
		m := newMachine(t, a)
		m.write(text)
		m.start()
		a.wants(lines...)
	})
	t.Run("smaller", func(t *testing.T) {
		t.Parallel()
		a := newAllocator(t)
		a.answer = func(b wire.LogBatch) error {
			if len(b.Events) > 40 {
				return refusal(413)
			}
			return nil
		}
		m := newMachine(t, a)
		m.write(text)
		m.start()
		a.wants(lines...)
	})
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		a := newAllocator(t)
		a.answer = func(b wire.LogBatch) error {
			for _, e := range b.Events {
				if strings.HasPrefix(e.Message, "bad") {
					return refusal(map[string]int{"bad": 400, "bad and large": 413}[e.Message])
				}
			}
			return nil
		}
		m := newMachine(t, a)
		var complaints syncBuffer
		m.cfg.Log = slog.New(slog.NewTextHandler(&complaints, nil))
		m.start()
		var want []string
		for n := range 20 {
			m.write(map[bool]string{true: "bad\n", false: "bad and large\n"}[n%2 == 0])
			a.try()
			m.write(fmt.Sprintf("good %d\n", n))
			want = append(want, fmt.Sprintf("good %d", n))
			a.wants(want...)
		}
		// One for 400, one for 413, whenever it changes; never one that is a reason for another.
		if n := strings.Count(complaints.String(), "WARN"); n == 0 || n > 20 {
			t.Errorf("%d complaints:\n%s", n, &complaints)
		}
	})
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// An empty memory: the same lines have the same names.
func TestRun_StateLost(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	m.write("one\ntwo\n")
	stop := m.start()
	a.wants("one", "two")
	stop()
	if err := os.RemoveAll(m.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	m.write("three\n")
	m.start()
	a.wants("one", "two", "three")
}

// What nobody could have read is told.
func TestRun_ReplacedWhileAway(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	m.write("one\n")
	stop := m.start()
	a.wants("one")
	stop()
	if err := os.Truncate(m.log, 0); err != nil {
		t.Fatal(err)
	}
	m.write("another\n")
	m.start()
	a.wants("one", lostText(-1), "another")
}

func TestRun_NotALog(t *testing.T) {
	t.Parallel()
	a := newAllocator(t)
	m := newMachine(t, a)
	if err := syscall.Mkfifo(m.log, 0o600); err != nil {
		t.Fatal(err)
	}
	var complaints syncBuffer
	m.cfg.Log = slog.New(slog.NewTextHandler(&complaints, nil))
	other := m.log + "-other"
	m.cfg.Sources = append(m.cfg.Sources, Source{Name: "other", Path: other})
	stop := m.start()
	if err := os.WriteFile(other, []byte("from another log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.wants("from another log")
	if err := os.Remove(m.log); err != nil {
		t.Fatal(err)
	}
	m.write("now it is one\n")
	a.wants("from another log", "now it is one")
	stop()
	if n := strings.Count(complaints.String(), "is not a regular file"); n > 1 {
		t.Errorf("%d complaints", n)
	}
}
