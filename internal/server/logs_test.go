package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/server"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

const processorToken = "processor-token-0123456789"

// serveLogs starts an allocator with a log processor, which sends its batches by
// what it returns.
func serveLogs(t *testing.T, configure func(*config.Config), adjust func(*server.Server)) *testkit.Allocator {
	t.Helper()
	return testkit.Serve(t, testkit.ServeOptions{Adjust: adjust, Configure: func(c *config.Config) {
		c.Logs.ProcessorToken = processorToken
		if configure != nil {
			configure(c)
		}
	}})
}

func postLogs(t *testing.T, a *testkit.Allocator, token string, body any) testkit.Response {
	t.Helper()
	return a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Token: token, JSON: body})
}

// events of our form, each with an id and a message of its number.
func events(first, last int) (list []wire.LogEvent) {
	for n := first; n <= last; n++ {
		list = append(list, wire.LogEvent{ID: fmt.Sprintf("%09d", n), Message: fmt.Sprintf("line %d", n)})
	}
	return list
}

func batch(hostname string, events ...wire.LogEvent) wire.LogBatch {
	return wire.LogBatch{Hostname: hostname, Source: "console", Events: events}
}

// logOf is a VM's whole log.
func logOf(t *testing.T, a *testkit.Allocator, hostname string) []store.LogLine {
	t.Helper()
	vm, err := a.Store.LogVM(t.Context(), hostname)
	if err != nil {
		t.Fatal(err)
	}
	var lines []store.LogLine
	if err := a.Store.EachLogLine(t.Context(), vm.ID, store.LogQuery{}, func(l store.LogLine) error {
		lines = append(lines, l)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if again, err := a.Store.LogVM(t.Context(), hostname); err != nil || again.Lines == vm.Lines && int(vm.Lines) != len(lines) {
		t.Errorf("the log is said to have %d lines, it has %d, %v", vm.Lines, len(lines), err)
	}
	return lines
}

func textOf(t *testing.T, a *testkit.Allocator, hostname string) string {
	t.Helper()
	var texts []string
	for _, l := range logOf(t, a, hostname) {
		texts = append(texts, l.Text)
	}
	return strings.Join(texts, "\n")
}

func wantText(t *testing.T, a *testkit.Allocator, hostname, want string) {
	t.Helper()
	if got := textOf(t, a, hostname); got != want {
		t.Errorf("the log of %s is\n%s\nwant\n%s", hostname, got, want)
	}
}

// All three forms of a batch, each sent twice.
func TestLogs_Forms(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	tokens := a.Register("vm-1", "vm-2", "vm-3", "vm-4")
	at := time.Date(2025, 1, 2, 3, 4, 5, 6e6, time.UTC)
	for range 2 {
		wantStatus(t, postLogs(t, a, tokens["vm-1"], batch("vm-1",
			wire.LogEvent{ID: "1", Time: wire.LogTime{Time: at}, Message: "ERROR: a\n  b\n"}, wire.LogEvent{Message: "c"})), http.StatusOK)
		wantStatus(t, postLogs(t, a, processorToken, wire.OldLogBatch{LogGroup: "g", LogStream: "vm-2", Messages: []string{"x", "x"}}), http.StatusOK)
		wantStatus(t, postLogs(t, a, processorToken, json.RawMessage(`{"hostname":"vm-3","logs":[
			{"timestamp":"2025-01-02T03:04:05.006Z","message":"y"},{"timestamp":1735787045006,"message":"z"},{"timestamp":"2025-01-02T03:04:05.006","message":"w"}]}`)), http.StatusOK)
		wantStatus(t, postLogs(t, a, processorToken, json.RawMessage(`{"log_group":"g","log_stream":"/aws/ec2/vm-4","messages":["m"],"events":null}`)), http.StatusOK)
	}
	wantText(t, a, "vm-1", "ERROR: a\n  b\nc")
	wantText(t, a, "vm-2", "x\nx")
	wantText(t, a, "vm-3", "y\nz\nw")
	wantText(t, a, "vm-4", "m")
	for _, l := range logOf(t, a, "vm-3") {
		if !l.At.Equal(at) || l.Source != "agent" {
			t.Errorf("%+v, want it at %v", l, at)
		}
	}
	if l := logOf(t, a, "vm-1")[1]; l.Level != fleet.LevelError || !l.At.Equal(at) || l.Source != "console" {
		t.Errorf("the second line is %+v", l)
	}
	if l := logOf(t, a, "vm-1")[2]; time.Since(l.At) > time.Minute {
		t.Errorf("an event without time came at %v", l.At)
	}
	for _, counted := range []string{`{outcome="stored"} 9`, `{outcome="duplicate"} 9`} {
		if m := metrics(t, a); !strings.Contains(m, "lablink_log_lines_total"+counted) {
			t.Errorf("the metrics lack %s", counted)
		}
	}
}

func TestLogs_BadBatches(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	token := a.Register("vm-1", "vm-2")["vm-1"]
	many, err := json.Marshal(batch("vm-1", make([]wire.LogEvent, wire.MaxLogEvents+1)...))
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]struct {
		status int
		field  string
		says   string
	}{
		`{}`: {400, "events", "send hostname"},
		`{"hostname":"vm-1","source":"x","events":[]}`:                              {400, "events", "1 to 10000"},
		`{"source":"x","events":[{"message":"m"}]}`:                                 {400, "hostname", "required"},
		`{"hostname":"VM 1","source":"x","events":[{"message":"m"}]}`:               {400, "hostname", "valid"},
		`{"hostname":"vm-1","source":"A b","events":[{"message":"m"}]}`:             {400, "source", "at most 32"},
		`{"hostname":"vm-1","source":"lablink","events":[{"message":"m"}]}`:         {400, "source", "not lablink"},
		`{"hostname":"vm-1","source":"x","events":[{"time":"noon","message":"m"}]}`: {400, "events.time", "RFC 3339"},
		`{"hostname":"vm-1","source":"x","events":[{"time":1e300,"message":"m"}]}`:  {400, "events.time", "RFC 3339"},
		`{"hostname":"vm-1","source":"x","events":[{"message":7}]}`:                 {400, "events.message", "a string"},
		`{"hostname":"vm-1","source":"x","events":"m"}`:                             {400, "events", "a list"},
		`{"log_stream":"vm-1","messages":["m"]}`:                                    {400, "log_group", "required"},
		`{"log_group":"g","messages":["m"]}`:                                        {400, "log_stream", "required"},
		`{"log_group":"g","log_stream":"vm-1"}`:                                     {400, "messages", "1 to"},
		`{"log_group":"g","log_stream":"vm-1","messages":[]}`:                       {400, "messages", "1 to"},
		`{"log_group":"g","log_stream":"vm-1","messages":"text"}`:                   {400, "messages", "a list"},
		`{"log_group":"g","log_stream":"vm-1","messages":[1]}`:                      {400, "messages", "a string"},
		`{"hostname":"vm-1","logs":[]}`:                                             {400, "logs", "1 to"},
		`{"hostname":"vm-2","source":"x","events":[{"message":"m"}]}`:               {403, "", "another VM"},
		`{"log_group":"g","log_stream":"a/vm-2","messages":["m"]}`:                  {403, "", "another VM"},
		`[]`: {400, "", "object"},
		`{"hostname":"vm-1","source":"x","events":[{"message":"` + strings.Repeat(`x\n`, 150) + `"}],`: {400, "", "ends too early"},
		string(many): {413, "events", "1 to 10000 events at once, not 10001"},
		`{"hostname":"vm-1","source":"x","events":[` + strings.Repeat(`{"message":"`+strings.Repeat(`\n`, 9000)+`"},`, 12) + `{"message":""}]}`: {413, "", "100,000 lines"},
		`{"hostname":"vm-1","source":"x","events":[{"message":"` + strings.Repeat("x", wire.MaxLogBytes) + `"}]}`:                               {413, "", "8388608 bytes"},
	} {
		r := a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Token: token, Form: body, Header: map[string]string{"Content-Type": asJSON}})
		var e wire.Error
		if r.Status == want.status {
			r.JSON(t, &e)
		}
		if r.Status != want.status || e.Field != want.field || !strings.Contains(e.Error, want.says) {
			t.Errorf("%.100s: %d %s %v, want %d about %q with %q", body, r.Status, r.Body, r.Err, want.status, want.field, want.says)
		}
	}
	wantText(t, a, "vm-1", "")
}

func gzipped(t *testing.T, body []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLogs_Compressed(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	token := a.Register("vm-1")["vm-1"]
	post := func(body, encoding string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Token: token, Form: body,
			Header: map[string]string{"Content-Type": asJSON, "Content-Encoding": encoding}})
	}
	plain, err := json.Marshal(batch("vm-1", events(1, 5000)...))
	if err != nil {
		t.Fatal(err)
	}
	whole := gzipped(t, plain)
	wantStatus(t, post(whole, "gzip"), http.StatusOK)
	wantStatus(t, post(whole[:len(whole)/2], "gzip"), http.StatusBadRequest)
	wantStatus(t, post("no gzip at all", "gzip"), http.StatusBadRequest)
	wantStatus(t, post(whole, "br"), http.StatusUnsupportedMediaType)
	bomb := post(gzipped(t, []byte(`{"hostname":"vm-1","events":[{"message":"`+strings.Repeat("x", 200<<20)+`"}]}`)), "gzip")
	if bomb.Status != http.StatusRequestEntityTooLarge || !strings.Contains(bomb.Body, "8388608") {
		t.Errorf("200 MB in little: %d %s", bomb.Status, bomb.Body)
	}
	if n := len(logOf(t, a, "vm-1")); n != 5000 {
		t.Errorf("%d lines", n)
	}
}

// Who may post, and read. A stranger's body is not even read.
func TestLogs_Access(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	tokens := a.Register("vm-1", "vm-2")
	big := batch("vm-1", wire.LogEvent{ID: "1", Message: strings.Repeat("x", 1<<20)})
	wantStatus(t, postLogs(t, a, "", big), http.StatusUnauthorized)
	wantStatus(t, postLogs(t, a, "wrong", big), http.StatusUnauthorized)
	wantStatus(t, postLogs(t, a, tokens["vm-2"], big), http.StatusForbidden)
	wantStatus(t, a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Admin: true, JSON: big}), http.StatusUnauthorized)
	wantStatus(t, postLogs(t, a, tokens["vm-1"], big), http.StatusOK)
	wantStatus(t, postLogs(t, a, processorToken, batch("vm-2", events(1, 1)...)), http.StatusOK)

	read := func(r testkit.Request) testkit.Response {
		r.Method, r.Path = http.MethodGet, wire.PathLogs+"/vm-1"
		return a.Do(t.Context(), r)
	}
	wantStatus(t, read(testkit.Request{}), http.StatusUnauthorized)
	wantStatus(t, read(testkit.Request{Token: tokens["vm-2"]}), http.StatusForbidden)
	wantStatus(t, read(testkit.Request{Token: processorToken}), http.StatusUnauthorized)
	wantStatus(t, read(testkit.Request{Token: tokens["vm-1"]}), http.StatusOK)
	wantStatus(t, read(testkit.Request{Admin: true}), http.StatusOK)

	// Without a configured token, an empty one is not the processor's.
	none := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Logs.Public = true }})
	none.Register("vm-1")
	wantStatus(t, none.Do(t.Context(), testkit.Request{Path: wire.PathLogs, JSON: big, Header: map[string]string{"Authorization": "Bearer "}}), http.StatusUnauthorized)
	r := none.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: wire.PathLogs + "/vm-1"})
	wantStatus(t, r, http.StatusOK)
	if r.Body != `{"hostname":"vm-1","logs":null}`+"\n" {
		t.Errorf("an empty log is %s", r.Body)
	}
}

// The existing Lambda and machines send no credential.
func TestLogs_OpenMachines(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	a.Register("vm-1")
	wantStatus(t, postLogs(t, a, "", wire.OldLogBatch{LogGroup: "g", LogStream: "vm-1", Messages: []string{"a"}}), http.StatusOK)
	wantStatus(t, a.Do(t.Context(), testkit.Request{Path: "//api/vm-logs", JSON: wire.OldLogBatch{LogGroup: "g", LogStream: "vm-1", Messages: []string{"b"}}}), http.StatusOK)
	wantText(t, a, "vm-1", "a\nb")
}

func TestLogs_Limits(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, func(c *config.Config) {
		c.Limits.VMLogPostsPerMinute, c.Limits.LogPostsPerMinute, c.Limits.VMRequestsPerMinute = 20, 30, 10
	}, nil)
	token := a.Register("vm-1")["vm-1"]
	for n := range 20 {
		wantStatus(t, postLogs(t, a, token, batch("vm-1", events(n, n)...)), http.StatusOK)
	}
	if r := postLogs(t, a, token, batch("vm-1", events(99, 99)...)); r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", r.Status, r.Header, r.Body)
	}
	for n := range 30 { // has an allowance of its own, as have the VM's reports
		wantStatus(t, postLogs(t, a, processorToken, batch("vm-1", events(100+n, 100+n)...)), http.StatusOK)
	}
	wantStatus(t, postLogs(t, a, processorToken, batch("vm-1", events(99, 99)...)), http.StatusTooManyRequests)
	wantStatus(t, reports(t, a, "vm-1", token), http.StatusOK)
}

// What is known to be secret is in no line, and in nothing that we write.
func TestLogs_Secrets(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	tokens := a.Register("vm-1", "vm-2")
	_, pin := request(t, a, 1)
	held := "vm-1"
	if vm, err := a.Store.VM(t.Context(), "vm-2"); err != nil || vm.Seat != fleet.SeatNone {
		held = "vm-2"
	}
	code := "4/0secret-code-1"
	say := fmt.Sprintf("the code %s, as %s, the PIN %s, tokens %s and %s, processor %s, %s",
		code, url.QueryEscape(code), pin, tokens["vm-1"], tokens["vm-2"], processorToken, testkit.AdminPassword)
	wantStatus(t, postLogs(t, a, tokens[held], batch(held, wire.LogEvent{ID: "1", Message: strings.Repeat("x", 16<<10-60) + say},
		wire.LogEvent{Message: say}, wire.LogEvent{Message: `{"level":"info","msg":` + string(must(json.Marshal(say))) + `}`})), http.StatusOK)
	wantStatus(t, postLogs(t, a, processorToken, batch("vm-9", wire.LogEvent{ID: "1", Message: "kept " + say})), http.StatusNotFound)
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var kept string
	if err := conn.QueryRow(t.Context(), `SELECT convert_from(body, 'UTF8') FROM log_waiting`).Scan(&kept); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(kept, "kept the code") || strings.Contains(kept, processorToken) || strings.Contains(kept, testkit.AdminPassword) {
		t.Errorf("kept aside is %s", kept)
	}
	log := textOf(t, a, held)
	if !strings.Contains(log, "the code [secret], as [secret], the PIN [secret], tokens [secret] and [secret], processor [secret]") {
		t.Errorf("the log is %s", log[len(log)-500:])
	}
	for _, secret := range []string{code, "4%2F0secret", pin, tokens["vm-1"], tokens["vm-2"], processorToken} {
		if strings.Contains(log, secret) || strings.Contains(a.Log.String(), secret) {
			t.Errorf("%s can be read", secret)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What machines print is text, whatever they print.
func TestLogs_HostileContent(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	token := a.Register("vm-1")["vm-1"]
	body := `{"hostname":"vm-1","source":"console","events":[
		{"id":"1","message":"\u001b[31mred\u001b[0m \u001b]0;title\u0007<b onclick='x'>&amp;"},
		{"id":"2","message":"nul \u0000 here\r\nnext"},
		{"id":"3","message":"bad ` + "\xff\xfe" + ` bytes \ud800"},
		{"id":"4","message":"10%\r99%\r100%"},
		{"id":"\u0000<id>","message":"` + strings.Repeat("0123456789", 700_000) + `"}]}`
	for range 2 {
		wantStatus(t, a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Token: token, Form: body, Header: map[string]string{"Content-Type": asJSON}}), http.StatusOK)
	}
	log := textOf(t, a, "vm-1")
	if want := "red <b onclick='x'>&amp;\nnul  here\nnext\nbad \ufffd\ufffd bytes \ufffd\n100%\n0123"; !strings.HasPrefix(log, want) {
		t.Errorf("the log is %.200q", log)
	}
	if !strings.HasSuffix(log, "bytes were cut]") || len(log) > 17<<10 {
		t.Errorf("a line of 7 MB became one of %d bytes: %q", len(log), log[len(log)-100:])
	}
	r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: wire.PathLogs + "/vm-1", Admin: true})
	var text struct{ Logs string }
	if r.JSON(t, &text); text.Logs != log {
		t.Error("the text that is read is another than the lines that are stored")
	}
}

// Batches of a VM that is not known are kept aside, and are in its log once when
// it appears, before what comes later.
func TestLogs_PutAside(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	second := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: a.DatabaseURL}) // both hear of the VM
	old := wire.OldLogBatch{LogGroup: "g", LogStream: "x/vm-1", Messages: []string{"a", "b"}}
	for range 2 {
		wantStatus(t, postLogs(t, a, processorToken, old), http.StatusNotFound)
		wantStatus(t, postLogs(t, a, processorToken, batch("vm-1", events(1, 3)...)), http.StatusNotFound)
		wantStatus(t, postLogs(t, a, processorToken, batch("vm-2", events(1, 1)...)), http.StatusNotFound)
	}
	token := second.Register("vm-1")["vm-1"]
	testkit.Eventually(t, "the lines to be there", func() bool { return len(logOf(t, a, "vm-1")) == 5 })
	wantStatus(t, postLogs(t, a, processorToken, old), http.StatusOK)
	wantStatus(t, postLogs(t, a, processorToken, batch("vm-1", events(2, 4)...)), http.StatusOK)
	wantStatus(t, postLogs(t, a, token, batch("vm-1", events(5, 5)...)), http.StatusOK)
	wantText(t, a, "vm-1", "a\nb\nline 1\nline 2\nline 3\nline 4\nline 5")
	if m := metrics(t, a); !strings.Contains(m, `lablink_log_lines_total{outcome="aside"}`) {
		t.Error("the metrics do not count what was put aside")
	}

	// A VM that has just gone is still known; its log is kept.
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-1", Admin: true}), http.StatusNoContent)
	wantStatus(t, postLogs(t, a, processorToken, batch("vm-1", events(6, 6)...)), http.StatusOK)
	if log := textOf(t, a, "vm-1"); !strings.HasSuffix(log, "line 6") {
		t.Errorf("the log is %s", log)
	}
}

// Two ways of reading, and what they refuse.
func TestLogs_Read(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	tokens := a.Register("vm-1", "vm-2")
	get := func(path string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: wire.PathLogs + path, Admin: true})
	}
	wantStatus(t, get("/vm-9"), http.StatusNotFound)
	wantStatus(t, get("/vm-9?format=json"), http.StatusNotFound)
	starts := testkit.Request{Path: wire.PathStatus, Token: tokens["vm-2"], JSON: wire.StatusRequest{Hostname: "vm-2", Status: "initializing"}}
	wantStatus(t, a.Do(t.Context(), starts), http.StatusOK)
	wantStatus(t, get("/vm-2"), http.StatusServiceUnavailable)
	wantStatus(t, postLogs(t, a, tokens["vm-2"], batch("vm-2", events(1, 2)...)), http.StatusOK)
	if r := get("/vm-2"); r.Body != `{"hostname":"vm-2","logs":"line 1\nline 2"}`+"\n" {
		t.Errorf("the log is %d %s", r.Status, r.Body)
	}

	at := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	var list []wire.LogEvent
	for n := 1; n <= 10; n++ {
		list = append(list, wire.LogEvent{ID: fmt.Sprint(n), Time: wire.LogTime{Time: at.Add(time.Duration(n) * time.Minute)}, Message: fmt.Sprintf("line %d", n)})
	}
	list[3].Message = "ERROR: Line 4"
	wantStatus(t, postLogs(t, a, tokens["vm-1"], batch("vm-1", list...)), http.StatusOK)
	type page struct {
		Hostname string
		Lines    []struct {
			Cursor                       int64
			Time, Level, Source, Message string
		}
		Next, Previous int64
	}
	lines := func(query string) (page, []string) {
		var p page
		r := get("/vm-1?format=json" + query)
		wantStatus(t, r, http.StatusOK)
		r.JSON(t, &p)
		messages := []string{}
		for _, l := range p.Lines {
			messages = append(messages, l.Message[len(l.Message)-1:])
		}
		return p, messages
	}
	all, _ := lines("")
	if l := all.Lines[3]; all.Hostname != "vm-1" || l.Level != "error" || l.Source != "console" || l.Time != "2025-01-02T03:08:05Z" || l.Cursor == 0 {
		t.Errorf("the fourth line is %+v", l)
	}
	cursor := func(n int) int64 { return all.Lines[n-1].Cursor }
	for query, want := range map[string][]string{
		"&limit=2": {"1", "2"},
		fmt.Sprintf("&after=%d&limit=2", cursor(2)):              {"3", "4"},
		fmt.Sprintf("&before=%d&limit=2", cursor(8)):             {"6", "7"},
		fmt.Sprintf("&after=%d&before=%d", cursor(2), cursor(5)): {"3", "4"},
		"&level=warn": {"4"},
		"&q=lINE+4":   {"4"},
		"&since=2025-01-02T03:11:05Z&until=2025-01-02T03:13:05Z": {"7", "8"},
		"&source=console&limit=1":                                {"1"},
		"&source=boot":                                           {},
	} {
		if _, got := lines(query); !cmp.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	first, _ := lines("&limit=4")
	if _, rest := lines(fmt.Sprintf("&after=%d", first.Next)); len(rest) != 6 {
		t.Errorf("after the first page come %q", rest)
	}
	end, none := lines(fmt.Sprintf("&after=%d", all.Next))
	if len(none) != 0 || end.Next != all.Next {
		t.Errorf("after the end come %q and then %d", none, end.Next)
	}
	for query, field := range map[string]string{
		"?format=xml": "format", "?format=json&limit=0": "limit", "?format=json&limit=5001": "limit", "?format=json&after=x": "after",
		"?format=json&before=-1": "before", "?format=json&level=loud": "level", "?format=json&since=noon": "since", "?format=json&until=1": "until",
		"?format=json&source=A+b": "source", "?format=json&lines=5": "lines", "?format=json&limit=1&limit=2": "limit",
		"?format=json&q=" + strings.Repeat("x", 201): "q",
	} {
		r := get("/vm-1" + query)
		var e wire.Error
		if r.JSON(t, &e); r.Status != http.StatusBadRequest || e.Field != field {
			t.Errorf("%s: %d %s, want 400 about %s", query, r.Status, r.Body, field)
		}
	}
}

// Nobody gets more than 8 MiB at once.
func TestLogs_ReadIsBounded(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, nil, nil)
	token := a.Register("vm-1")["vm-1"]
	for n := range 12 {
		var list []wire.LogEvent
		for i := range 70 {
			list = append(list, wire.LogEvent{ID: fmt.Sprint(n, " ", i), Message: fmt.Sprintf("%d %d ", n, i) + strings.Repeat("x", 15<<10)})
		}
		wantStatus(t, postLogs(t, a, token, batch("vm-1", list...)), http.StatusOK)
	}
	get := func(query string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: wire.PathLogs + "/vm-1" + query, Token: token})
	}
	var text struct{ Logs string }
	get("").JSON(t, &text)
	first, _, _ := strings.Cut(text.Logs, "\n")
	if len(text.Logs) > 8<<20+200 || len(text.Logs) < 8<<20-20<<10 || !strings.Contains(first, "/api/vm-logs/vm-1?format=json") || !strings.Contains(text.Logs, "\n11 69 xxx") {
		t.Errorf("%d bytes, which begin with %.200q", len(text.Logs), first)
	}
	seen := 0
	for after := int64(0); ; {
		r := get(fmt.Sprintf("?format=json&limit=5000&after=%d", after))
		var page struct {
			Lines []struct{ Message string }
			Next  int64
		}
		if r.JSON(t, &page); len(r.Body) > 9<<20 {
			t.Fatalf("%d bytes at once", len(r.Body))
		}
		if seen += len(page.Lines); len(page.Lines) == 0 {
			break
		}
		after = page.Next
	}
	if seen != 12*70 {
		t.Errorf("%d lines page by page", seen)
	}
	var last struct{ Lines []struct{ Message string } }
	get("?format=json&limit=5000&before=999999999").JSON(t, &last)
	if n := len(last.Lines); n < 500 || !strings.HasPrefix(last.Lines[n-1].Message, "11 69 ") {
		t.Errorf("%d lines before the end", n)
	}
}

// A log that grows beyond its bound loses its oldest lines, and says so, while it
// is written; when its VM has been destroyed for long enough, it goes.
func TestLogs_CapAndRetention(t *testing.T) {
	t.Parallel()
	const most, posts, each = 300, 40, 50
	a := serveLogs(t, func(c *config.Config) { c.Logs.MaxLines, c.Logs.Retention = most, 0 },
		func(s *server.Server) { server.SetTendEvery(s, 10*time.Millisecond) })
	tokens := a.Register("vm-1", "vm-2")
	for n := range posts {
		wantStatus(t, postLogs(t, a, tokens["vm-1"], batch("vm-1", events(n*each, n*each+each-1)...)), http.StatusOK)
	}
	wantStatus(t, postLogs(t, a, tokens["vm-2"], batch("vm-2", events(1, 50)...)), http.StatusOK)
	testkit.Eventually(t, "the log to be short", func() bool {
		vm, err := a.Store.LogVM(t.Context(), "vm-1")
		return err == nil && vm.Lines == most && vm.Dropped == posts*each-most+1
	})
	lines := logOf(t, a, "vm-1")
	if l := lines[0]; l.Text != "1,701 older lines were dropped: a log keeps its newest 300 (logs.max_lines)" || l.Level != fleet.LevelWarn || l.Source != "lablink" {
		t.Errorf("the first line is %+v", l)
	}
	for i, l := range lines[1:] {
		if want := fmt.Sprintf("line %d", posts*each-most+1+i); l.Text != want {
			t.Fatalf("line %d is %q, want %q", i, l.Text, want)
		}
	}
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-1", Admin: true}), http.StatusNoContent)
	testkit.Eventually(t, "the log to be gone", func() bool {
		_, err := a.Store.LogVM(context.WithoutCancel(t.Context()), "vm-1")
		return fleet.KindOf(err) == fleet.NotFound
	})
	if n := len(logOf(t, a, "vm-2")); n != 50 {
		t.Errorf("the other log has %d lines", n)
	}
}
