package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// rotatedLog is a file of numbered lines that is rotated in both ways.
type rotatedLog struct {
	t    *testing.T
	path string
	last int // number of the last line

	rotated int // times
}

func (l *rotatedLog) must(err error) {
	l.t.Helper()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.t.Fatal(err)
	}
}

// write appends lines, and sometimes rotates at a random moment.
func (l *rotatedLog) write(lines int) {
	l.t.Helper()
	rotateAt := rand.IntN(3 * lines)
	var text bytes.Buffer
	for n := range lines {
		l.last++
		fmt.Fprintf(&text, "line %d %s\n", l.last, strings.Repeat("x", rand.IntN(100)))
		if n == rotateAt || n == lines-1 || rand.IntN(200) == 0 {
			l.append(text.Bytes())
			text.Reset()
		}
		if n == rotateAt {
			l.rotate()
		}
	}
}

func (l *rotatedLog) append(data []byte) {
	l.t.Helper()
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	l.must(err)
	for len(data) > 0 && err == nil { // in pieces that end anywhere
		n := min(len(data), 1+rand.IntN(5000))
		_, err = f.Write(data[:n])
		data = data[n:]
	}
	l.must(errors.Join(err, f.Close()))
}

func (l *rotatedLog) rotate() {
	l.t.Helper()
	l.rotated++
	for n := l.rotated; n > 0; n-- { // all are kept: however slow the agent is here, none is deleted under its hands
		l.must(os.Rename(fmt.Sprintf("%s.%d", l.path, n), fmt.Sprintf("%s.%d", l.path, n+1)))
	}
	if rand.IntN(2) == 0 {
		l.must(os.Rename(l.path, l.path+".1"))
		return
	}
	data, err := os.ReadFile(l.path)
	l.must(err)
	l.must(os.WriteFile(l.path+".1", data, 0o600))
	l.must(os.Truncate(l.path, 0))
}

// The agent is killed again and again, and so is the server, while 100,000
// numbered lines are written to a file that is rotated in both ways: all arrive,
// in order, once.
func TestAgent_KillNineLosesNoLine(t *testing.T) {
	t.Parallel()
	const lines, lives = 100_000, 25
	dir := dataDir(t)
	server, c := serve(t, "--data-dir", dir)
	c.login(dir)
	token := c.register("vm-1")["vm-1"]
	address, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	state := filepath.Join(folder, "state")
	log := &rotatedLog{t: t, path: filepath.Join(folder, "app.log")}
	agent := func() *proc {
		return start(t, []string{"LABLINK_TOKEN=" + token, "LABLINK_LOG_FILE=app=" + log.path}, "agent",
			"--allocator", c.url, "--hostname", "vm-1", "--state-dir", state, "--boot-log", "none", "--start-host", "/bin/false")
	}
	soon := func(most time.Duration) {
		select {
		case <-t.Context().Done():
		case <-time.After(rand.N(most)):
		}
	}
	began := time.Now()
	first := agent() // what was rotated away before the first agent came is not sent
	log.append([]byte("line 1\n"))
	log.last = 1
	testkit.Eventually(t, "the agent to know the file", func() bool {
		_, err := os.Stat(filepath.Join(state, "vm-1.logs", "app.json"))
		return err == nil
	})
	first.signal(syscall.SIGKILL)
	_ = first.wait() // it was killed
	for life := range lives {
		a := agent()
		for range 10 {
			log.write(lines / lives / 10)
			soon(120 * time.Millisecond)
		}
		if life%6 == 3 { // the server is away for the rest of this life and the next
			server.signal(syscall.SIGKILL)
			_ = server.wait() // it was killed
		}
		soon(100 * time.Millisecond)
		a.signal(syscall.SIGKILL)
		if err := a.wait(); err == nil {
			t.Fatal("kill -9 was survived")
		}
		log.write(10) // while nobody looks
		if life%6 == 4 {
			server, _ = serve(t, "--data-dir", dir, "--listen", address.Host)
		}
	}
	written := time.Since(began)
	a := agent()
	next, want := int64(0), 1
	for deadline := time.Now().Add(patience); want <= log.last; {
		var page struct {
			Lines []struct{ Message string }
			Next  int64
		}
		path := fmt.Sprintf("%s/vm-1?format=json&source=app&limit=5000&after=%d", wire.PathLogs, next)
		if status := c.do(t.Context(), http.MethodGet, path, nil, nil, &page); status != http.StatusOK {
			t.Fatalf("reading the log: %d", status)
		}
		for _, l := range page.Lines {
			if got, _, _ := strings.Cut(strings.TrimPrefix(l.Message, "line "), " "); got != fmt.Sprint(want) {
				t.Fatalf("line %d is %.80q", want, l.Message)
			}
			want++
		}
		if len(page.Lines) > 0 {
			next, deadline = page.Next, time.Now().Add(patience)
			continue
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lines have come, want %d", want-1, log.last)
		}
		soon(100 * time.Millisecond)
	}
	t.Logf("%d lines were written in %v; the last had come %v later", log.last, written, time.Since(began)-written)
	a.signal(syscall.SIGTERM)
	if err := a.wait(); err != nil {
		t.Error(err)
	}
}
