package httpx

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer collects a log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// observed is what an Observer was told.
type observed struct {
	route, method string
	status        int
}

// site is a server behind Observe.
type site struct {
	*httptest.Server
	log      logBuffer
	observed chan observed
}

func serve(t *testing.T, h http.Handler, trusted ...netip.Prefix) *site {
	t.Helper()
	s := &site{observed: make(chan observed, 1000)}
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	s.Server = httptest.NewServer(Observe(h, logger, trusted, func(route, method string, status int, _ time.Duration) {
		s.observed <- observed{route, method, status}
	}, JSONError))
	t.Cleanup(s.Close)
	return s
}

// answer is an answer that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (s *site) send(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data), err}
}
