package logship

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lablink/internal/testkit"
	"lablink/internal/wire"
)

func TestConfigure(t *testing.T) {
	t.Parallel()
	const url = "https://lablink.example.org/api/vm-logs"
	for name, c := range map[string]struct {
		env  map[string]string
		want Config
		says []string // the error or warnings
	}{
		"usual":      {map[string]string{"API_ENDPOINT": url, "API_TOKEN": " secret\n"}, Config{Endpoint: url, Token: "secret"}, nil},
		"slashes":    {map[string]string{"API_ENDPOINT": url + "//", "API_TOKEN": "secret", "API_FORMAT": "lablink"}, Config{Endpoint: url, Token: "secret"}, nil},
		"port":       {map[string]string{"API_ENDPOINT": "http://10.0.0.1:5000/api/vm-logs", "API_TOKEN": "s"}, Config{Endpoint: "http://10.0.0.1:5000/api/vm-logs", Token: "s"}, nil},
		"python":     {map[string]string{"API_ENDPOINT": url, "API_FORMAT": "python"}, Config{Endpoint: url, Python: true}, nil},
		"no scheme":  {map[string]string{"API_ENDPOINT": "10.0.0.1:80/api/vm-logs", "API_FORMAT": "python"}, Config{Endpoint: "http://10.0.0.1:80/api/vm-logs", Python: true}, []string{"API_ENDPOINT has no scheme"}},
		"nothing":    {nil, Config{}, []string{"set API_ENDPOINT", "it is not set", "set API_TOKEN", "API_FORMAT=python"}},
		"no token":   {map[string]string{"API_ENDPOINT": url}, Config{Endpoint: url}, []string{"set API_TOKEN to the value of logs.processor_token"}},
		"bad token":  {map[string]string{"API_ENDPOINT": url, "API_TOKEN": "sec\nret"}, Config{Endpoint: url, Token: "sec\nret"}, []string{"cannot be sent"}},
		"bad format": {map[string]string{"API_ENDPOINT": url, "API_TOKEN": "s", "API_FORMAT": "old"}, Config{Endpoint: url, Token: "s"}, []string{"set API_FORMAT to lablink, or to python", `"old"`}},
		"no path":    {map[string]string{"API_ENDPOINT": "https://lablink.example.org", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"set API_ENDPOINT", "it must end with /api/vm-logs"}},
		// The Python system's template without DNS.
		"no name":  {map[string]string{"API_ENDPOINT": "N/A/api/vm-logs", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"it must end with /api/vm-logs right behind the host"}},
		"no host":  {map[string]string{"API_ENDPOINT": "https:///api/vm-logs", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"right behind the host"}},
		"ftp":      {map[string]string{"API_ENDPOINT": "ftp://h/api/vm-logs", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"http:// or https://"}},
		"password": {map[string]string{"API_ENDPOINT": "https://u:hush@h/api/vm-logs", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"neither a user"}},
		"query":    {map[string]string{"API_ENDPOINT": url + "?hush", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"behind ? or #"}},
		"no URL":   {map[string]string{"API_ENDPOINT": "https://h:hush/api/vm-logs", "API_TOKEN": "s"}, Config{Token: "s"}, []string{"it is no URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, said, err := Configure(func(key string) string { return c.env[key] })
			if err != nil {
				said = append(said, err.Error())
			}
			if d := cmp.Diff(c.want, got); d != "" || (len(c.says) > 0) != (len(said) > 0) {
				t.Errorf("(-want +got):\n%s%q", d, said)
			}
			all := strings.Join(said, "\n")
			for _, text := range c.says {
				if !strings.Contains(all, text) {
					t.Errorf("it says %q, want %q", all, text)
				}
			}
			if strings.Contains(all, "hush") || strings.Contains(all, "ret\n") {
				t.Errorf("it says %q", all)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string]string{"vm-1": "vm-1", "/aws/ec2/lablink-client-1": "lablink-client-1", "a/vm-1/": "vm-1", "/": "", "": ""} {
		if got := hostname(stream); got != want {
			t.Errorf("the hostname of %q is %q, want %q", stream, got, want)
		}
	}
}

func TestFitting(t *testing.T) {
	t.Parallel()
	event := func(size int) wire.LogEvent { return wire.LogEvent{ID: "1", Message: strings.Repeat("<", size)} } // 6 bytes in JSON
	for name, c := range map[string]struct {
		list       []wire.LogEvent
		most, want int
	}{
		"all":        {slices.Repeat([]wire.LogEvent{event(1)}, 5), 10, 5},
		"at most":    {slices.Repeat([]wire.LogEvent{event(1)}, 5), 3, 3},
		"the size":   {slices.Repeat([]wire.LogEvent{event(1 << 19)}, 5), 10, 2},
		"one anyway": {slices.Repeat([]wire.LogEvent{event(2 << 20)}, 5), 10, 1},
	} {
		if got, err := fitting(c.list, c.most); err != nil || got != c.want {
			t.Errorf("%s: %d fit, %v, want %d", name, got, err, c.want)
		}
	}
}

// stage is an allocator with HTTP and HTTPS, of which each may redirect.
type stage struct {
	plain, secure, other *httptest.Server
	to                   func(r *http.Request) (code int, location string) // 0 takes it
	got                  chan string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{got: make(chan string, 10)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme := "http "
		if r.TLS != nil {
			scheme = "https "
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.got <- scheme + r.Method + " " + r.Header.Get("Authorization") + " " + string(body)
		if code, to := s.to(r); code != 0 {
			w.Header().Set("Location", to)
			w.WriteHeader(code)
			return
		}
		_, _ = io.WriteString(w, `{"message":"stored"}`)
	})
	s.plain, s.secure, s.other = httptest.NewServer(handler), httptest.NewTLSServer(handler), httptest.NewServer(handler)
	for _, server := range []*httptest.Server{s.plain, s.secure, s.other} {
		t.Cleanup(server.Close)
	}
	return s
}

// shipper is one that posts to that stage.
func (s *stage) shipper(t *testing.T, url string) *Shipper {
	t.Helper()
	sh := New(Config{Endpoint: url + wire.PathLogs, Token: "secret", Python: true}, slog.New(slog.NewTextHandler(&testkit.LogBuffer{}, nil)))
	pool := x509.NewCertPool()
	pool.AddCert(s.secure.Certificate())
	sh.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(sh.client.CloseIdleConnections)
	return sh
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	const body = `"hello"`
	for name, c := range map[string]struct {
		from func(s *stage) *httptest.Server
		code int
		to   func(s *stage) string
		says string // the error; "" for none
	}{
		"301 to HTTPS":       {plain, 301, func(s *stage) string { return s.secure.URL + "/x" }, ""},
		"308 to HTTPS":       {plain, 308, func(s *stage) string { return s.secure.URL + wire.PathLogs }, ""},
		"307 to HTTPS":       {plain, 307, func(s *stage) string { return s.secure.URL + wire.PathLogs }, ""},
		"308 on the host":    {plain, 308, func(*stage) string { return "/other" }, ""},
		"302":                {plain, 302, func(s *stage) string { return s.secure.URL + "/x?secret" }, "302, which would make a GET of the POST, to https://"},
		"303":                {plain, 303, func(s *stage) string { return s.secure.URL }, "set API_ENDPOINT to the address that answers"},
		"to HTTP":            {secure, 308, func(s *stage) string { return s.plain.URL }, "to another host or to HTTP, http://"},
		"to another port":    {plain, 308, func(s *stage) string { return s.other.URL }, "to another host"},
		"to another host":    {plain, 301, func(*stage) string { return "https://localhost/x?secret" }, "to another host or to HTTP, https://localhost/x:"},
		"to nowhere":         {plain, 301, func(*stage) string { return "" }, "301 without saying where"},
		"again and again":    {plain, 308, func(*stage) string { return "/again" }, "more than three times"},
		"to what is no HTTP": {plain, 308, func(*stage) string { return "file:///etc/passwd" }, "to another host or to HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			from := c.from(s)
			s.to = func(r *http.Request) (int, string) {
				if again := name == "again and again"; again || r.URL.Path == wire.PathLogs && (r.TLS != nil) == (from == s.secure) && "http://"+r.Host != s.other.URL {
					return c.code, c.to(s)
				}
				return 0, ""
			}
			err := s.shipper(t, from.URL).send(t.Context(), []byte(body))
			if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") || passing(err)) {
				t.Errorf("it says %v, want %q", err, c.says)
			}
			close(s.got)
			posts := map[string]int{}
			for got := range s.got {
				scheme, rest, _ := strings.Cut(got, " ")
				if rest != "POST Bearer secret "+body {
					t.Errorf("it sent %q", got)
				}
				posts[scheme]++
			}
			want := map[string]int{"http": 1}
			switch {
			case from == s.secure:
				want = map[string]int{"https": 1}
			case name == "308 on the host":
				want = map[string]int{"http": 2}
			case name == "again and again":
				want = map[string]int{"http": 4}
			case c.says == "":
				want = map[string]int{"http": 1, "https": 1}
			}
			if !maps.Equal(posts, want) {
				t.Errorf("it posted %v, want %v", posts, want)
			}
		})
	}
}

func plain(s *stage) *httptest.Server  { return s.plain }
func secure(s *stage) *httptest.Server { return s.secure }

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(10 * time.Second).UTC().Format(http.TimeFormat)
	for text, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "99999999999": 0, soon: 10 * time.Second} {
		got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}})
		if got > want || got < want-2*time.Second {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"6f1d2c3b4a596877": "6f1d2c3b4a596877", "a line of a log": "", "": ""} {
		if got := requestID(&http.Response{Header: http.Header{"X-Request-Id": {id}}}); got != want {
			t.Errorf("the id %q is %q", id, got)
		}
	}
}
