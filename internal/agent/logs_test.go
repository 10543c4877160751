package agent

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/agent/ship"
	"lablink/internal/wire"
)

// sentLogs is a post of logs.
type sentLogs struct {
	wire.LogBatch

	token  string
	zipped bool
}

// takeLogs answers 200, or the refusal that the test asked for; the test gets
// what was taken.
func (f *fakeAllocator) takeLogs(w http.ResponseWriter, r *http.Request) {
	sent := sentLogs{token: r.Header.Get("Authorization"), zipped: r.Header.Get("Content-Encoding") == "gzip"}
	var body io.Reader = r.Body
	if sent.zipped {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			f.t.Errorf("gzip: %v", err)
			return
		}
	}
	if err := json.NewDecoder(body).Decode(&sent.LogBatch); err != nil {
		f.t.Errorf("logs: %v", err)
	}
	switch code := f.refusal(r.URL.Path); code {
	case 0:
		f.logs <- sent
	case hangs:
		_, _ = io.Copy(io.Discard, r.Body) // only then it is seen that the caller goes
		f.logs <- sent
		<-r.Context().Done()
	default:
		w.WriteHeader(code)
	}
}

// hangs is a refusal that never comes, of what was taken.
const hangs = -1

// newShippingVM is a VM whose agent ships logs.
func newShippingVM(t *testing.T, f *fakeAllocator) *vm {
	v := newVM(t, f)
	v.cfg.ShipLogs = true
	v.cfg.Timing.Logs = ship.Timing{Look: time.Millisecond, Batch: time.Millisecond, Partial: patience, Settle: time.Millisecond}
	return v
}

// line waits for a line of a source that has a text in it, and returns the batch.
func (f *fakeAllocator) line(t *testing.T, source, text string) sentLogs {
	t.Helper()
	for {
		b := next(t, f.logs, "line "+text)
		for _, e := range b.Events {
			if b.Source == source && strings.Contains(e.Message, text) {
				return b
			}
		}
	}
}

func TestLogs_Sources(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newShippingVM(t, f)
	file := filepath.Join(v.home, "some.log")
	v.cfg.LogFiles = []ship.Source{{Name: "some", Path: file}}
	stop := v.start()
	b := f.line(t, SourceAgent, `"msg":"the agent has started"`)
	if b.Hostname != testHost || b.token != "Bearer "+testToken {
		t.Errorf("sent %+v", b)
	}
	next(t, f.polls, "poll").reply(delivery(9, "4/0good"))
	f.line(t, SourceAgent, "the result is reported")

	if _, err := Console(v.cfg.StateDir, testHost).Write([]byte("desktop: started\n")); err != nil {
		t.Fatal(err)
	}
	f.line(t, SourceConsole, "desktop: started")
	long := strings.Repeat("a line that can be compressed ", 100)
	if err := os.WriteFile(file, []byte(long+testToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := f.line(t, "some", long+"[secret]"); !b.zipped {
		t.Error("it is not compressed")
	}
	stop()
	f.line(t, SourceAgent, "the agent has stopped")
}

// An allocator that takes lines, but does not say so, gets the same again by the
// same names.
func TestLogs_AllocatorHangs(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newShippingVM(t, f)
	v.cfg.Timing.Call = 500 * time.Millisecond
	f.refuseNext(wire.PathLogs, hangs, hangs)
	v.start()
	tries := [3]sentLogs{}
	for n := range tries {
		tries[n] = next(t, f.logs, "try")
	}
	for _, again := range tries[1:] {
		if len(tries[0].Events) == 0 || !reflect.DeepEqual(again, tries[0]) {
			t.Errorf("first %+v\nthen  %+v", tries[0], again)
		}
	}
	next(t, f.polls, "poll").reply(delivery(9, "4/0good"))
	f.line(t, SourceAgent, "the result is reported")
}

// What cannot be sent is complained about once, where it is not sent.
func TestLogs_NoLoop(t *testing.T) {
	t.Parallel()
	for code, times := range map[int]int{http.StatusServiceUnavailable: 5, http.StatusBadRequest: 1} {
		f := newAllocator(t)
		v := newShippingVM(t, f)
		f.refuseNext(wire.PathLogs, slices.Repeat([]int{code}, times)...)
		stop := v.start()
		next(t, f.polls, "poll").reply(delivery(9, "4/0good"))
		next(t, f.results, "result")
		f.line(t, SourceAgent, "the result is reported")
		stop()
		for over := false; !over; {
			for _, e := range next(t, f.logs, "end of the log").Events {
				if strings.Contains(e.Message, "the log") {
					t.Errorf("%d: it is sent that %q", code, e.Message)
				}
				over = over || strings.Contains(e.Message, "the agent has stopped")
			}
		}
		if n := strings.Count(v.log.String(), `"source":"agent"`); n < 1 || n > 2 { // and that it can be used again
			t.Errorf("%d: %d complaints in\n%s", code, n, v.log)
		}
		v.noSecrets("0good")
	}
}

func TestLogs_NotToBeShipped(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newShippingVM(t, f)
	v.cfg.ShipLogs = false
	file := filepath.Join(v.home, "boot.log")
	v.cfg.LogFiles = []ship.Source{{Name: SourceBoot, Path: file}}
	if _, err := Console(v.cfg.StateDir, testHost).Write([]byte("desktop: started\n")); err != nil {
		t.Fatal(err)
	}
	stop := v.start()
	next(t, f.polls, "poll")
	if err := os.WriteFile(file, []byte("booted\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop()
	if b := f.line(t, SourceBoot, "booted"); len(b.Events) != 1 || len(f.logs) != 0 {
		t.Errorf("%+v, and %d others", b, len(f.logs))
	}
}
