package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"lablink/internal/config"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

const (
	asJSON = "application/json"
	asForm = "application/x-www-form-urlencoded"
	asHTML = "text/html; charset=utf-8"
)

// site is an allocator that makes VMs, in a test that stands in the place of
// Terraform.
type site struct {
	*testkit.Allocator
	t *testing.T
	w *store.Workspace // keeps the allocator's own runner away
}

func serve(t *testing.T, configure func(*config.Config)) *site {
	t.Helper()
	a, w := testkit.ServeByHand(t, configure)
	return &site{a, t, w}
}

// claim takes the next operation, as the allocator's runner would.
func (s *site) claim() *store.Claim {
	s.t.Helper()
	c, err := s.w.Claim(s.t.Context())
	if err != nil || c == nil {
		s.t.Fatalf("claim: %v, %v", c, err)
	}
	return c
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) send(path, contentType, body, accept string) testkit.Response {
	s.t.Helper()
	return s.Do(s.t.Context(), testkit.Request{Path: path, Admin: true, Form: body,
		Header: map[string]string{"Content-Type": contentType, "Accept": accept}})
}

func (s *site) get(path string) testkit.Response {
	s.t.Helper()
	return s.Do(s.t.Context(), testkit.Request{Method: http.MethodGet, Path: path, Admin: true})
}

// untouched fails if there is more than n VMs and operations.
func (s *site) untouched(vms, operations int) {
	s.t.Helper()
	statuses, err := s.Store.Statuses(s.t.Context())
	s.must(err)
	ops, err := s.Store.Operations(s.t.Context(), 1000)
	s.must(err)
	if len(statuses) != vms || len(ops) != operations {
		s.t.Errorf("%d VMs and %d operations, want %d and %d", len(statuses), len(ops), vms, operations)
	}
}

// refused sends a body that must be refused, as a program and as a browser does.
func (s *site) refused(path, contentType, body string, status int, field, says string) {
	s.t.Helper()
	r := s.send(path, contentType, body, asJSON)
	var e struct{ Error, Field string }
	r.JSON(s.t, &e)
	if r.Status != status || e.Error == "" || e.Field != field || !strings.Contains(e.Error, says) || r.Header.Get("Content-Type") != asJSON {
		s.t.Errorf("%s %s %.80q: %d %s, want %d for %q with %q", path, contentType, body, r.Status, r.Body, status, field, says)
	}
	want := asHTML
	if strings.Contains(contentType, "json") {
		want = asJSON
	}
	if r := s.send(path, contentType, body, "text/html,*/*"); r.Status != status || r.Header.Get("Content-Type") != want {
		s.t.Errorf("%s %s %.80q for a browser: %d, %s", path, contentType, body, r.Status, r.Header.Get("Content-Type"))
	}
}

func TestLaunch_Refused(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *config.Config) { c.Limits.MaxVMs, c.Limits.BodyBytes = 5, 2048 })
	for _, tc := range []struct {
		body        string
		field, says string
	}{
		{`{}`, "num_vms", "how many"}, {`{"num_vms": null}`, "num_vms", "how many"}, {`{"instance_type": "small"}`, "num_vms", "how many"},
		{`{"num_vms": 0}`, "num_vms", "1 to 5 (limits.max_vms)"}, {`{"num_vms": -1}`, "num_vms", "-1 VMs"}, {`{"num_vms": "-0"}`, "num_vms", "0 VMs"},
		{`{"num_vms": 6}`, "num_vms", "1 to 5"}, {`{"num_vms": 1000000}`, "num_vms", "1 to 5"}, {`{"num_vms": 2147483648}`, "num_vms", "1 to 5"},
		{`{"num_vms": 99999999999999999999}`, "num_vms", "out of range"}, {`{"num_vms": "-99999999999999999999"}`, "num_vms", "out of range"},
		{`{"num_vms": 1.5}`, "num_vms", `"1.5" is not a whole number`}, {`{"num_vms": 1.0}`, "num_vms", "whole number"}, {`{"num_vms": 1e2}`, "num_vms", "whole number"},
		{`{"num_vms": "abc"}`, "num_vms", `"abc" is not`}, {`{"num_vms": ""}`, "num_vms", "whole number"}, {`{"num_vms": " "}`, "num_vms", "whole number"},
		{`{"num_vms": "0x2"}`, "num_vms", "whole number"}, {`{"num_vms": "1_0"}`, "num_vms", "whole number"}, {`{"num_vms": "２"}`, "num_vms", "whole number"},
		{`{"num_vms": true}`, "num_vms", "whole number"}, {`{"num_vms": [2]}`, "num_vms", "whole number"}, {`{"num_vms": {"n": 2}}`, "num_vms", "whole number"},
		{`{"num_vms": "2; DROP TABLE vms"}`, "num_vms", "whole number"}, {`{"num_vms": "` + strings.Repeat("9", 1000) + `"}`, "num_vms", "..."},
		{`{"num_instances": 0}`, "num_instances", "1 to 5"}, {`{"num_instances": "x"}`, "num_instances", "whole number"},
		{`{"num_vms": 2, "num_instances": 3}`, "num_vms", "num_vms is 2 and num_instances 3"}, {`{"num_vms": 2, "num_instances": "x"}`, "num_vms", "send one of them"},
		{`{"num_vms": 2, "instance_type": "g4dn xlarge"}`, "instance_type", "g4dn xlarge"}, {`{"num_vms": 2, "instance_type": "\"${x}"}`, "instance_type", "g4dn.xlarge"},
		{`{"num_vms": 2, "instance_type": "a\u0000"}`, "instance_type", "not an instance type"}, {`{"num_vms": 2, "instance_type": "` + strings.Repeat("a", 65) + `"}`, "instance_type", "1 to 64"},
		{`{"num_vms": 2, "instance_type": 5}`, "instance_type", "must be a string"}, {`{"num_vms": 2, "instance_type": ["small"]}`, "instance_type", "must be a string"},
		{``, "", "empty"}, {`{"num_vms": 2`, "", "ends too early"}, {`{"num_vms": 2} {}`, "", "after the JSON value"}, {`num_vms=2`, "", "not valid JSON"},
		{`[]`, "", "JSON object"}, {`2`, "", "JSON object"}, {`{"num_vms": 02}`, "", "not valid JSON"}, {`{'num_vms': 2}`, "", "not valid JSON"},
	} {
		s.refused("/api/launch", asJSON, tc.body, http.StatusBadRequest, tc.field, tc.says)
	}
	for _, tc := range []struct{ body, field, says string }{
		{"", "num_vms", "how many"}, {"num_vms=", "num_vms", "whole number"}, {"num_vms=0", "num_vms", "1 to 5"}, {"num_vms=x", "num_vms", "whole number"},
		{"num_vms=6", "num_vms", "1 to 5"}, {"num_vms=1&num_instances=2", "num_vms", "send one of them"}, {"num_vms=1&instance_type=a+b", "instance_type", "a b"},
		{"num_vms=%ff", "", "not text"}, {"num_vms=1%00", "", "not text"}, {"num_vms=%zz", "", "could not be read"}, {`{"num_vms": 2}`, "num_vms", "how many"},
	} {
		s.refused("/api/launch", asForm, tc.body, http.StatusBadRequest, tc.field, tc.says)
	}
	for _, contentType := range []string{"text/plain", "application/xml", "application/jsonp", "nonsense", "text/json"} {
		s.refused("/api/launch", contentType, `{"num_vms": 2}`, http.StatusUnsupportedMediaType, "", asJSON)
	}
	s.refused("/api/launch", asJSON, `{"num_vms": 2, "x": "`+strings.Repeat("a", 3000)+`"}`, http.StatusRequestEntityTooLarge, "", "2048 bytes")
	s.refused("/api/launch", asForm, "num_vms=2&x="+strings.Repeat("a", 3000), http.StatusRequestEntityTooLarge, "", "2048 bytes")
	s.refused("/api/launch", "multipart/form-data", "num_vms=2", http.StatusBadRequest, "", "could not be read")
	if r := s.Do(t.Context(), testkit.Request{Path: "/api/launch?num_vms=2", Admin: true}); r.Status != http.StatusBadRequest {
		t.Errorf("a number in the address: %d %s", r.Status, r.Body)
	}
	s.untouched(0, 0)
	s.Launch(3)
	s.refused("/api/launch", asJSON, `{"num_vms": 3}`, http.StatusBadRequest, "num_vms", "at most 5 may be alive at once (limits.max_vms). Ask for at most 2")
	s.untouched(3, 1)
}

func TestLaunch_Accepted(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	total := 0
	for i, tc := range []struct {
		contentType, body string
		n                 int
		instanceType      string
	}{
		{asJSON, `{"num_vms": 2}`, 2, "small"},
		{"application/json; charset=utf-8", `{"num_vms": "2", "instance_type": "g4dn.xlarge"}`, 2, "g4dn.xlarge"},
		{"application/vnd.lablink+json", ` {"num_vms": " 1 ", "instance_type": "  "} `, 1, "small"},
		{asJSON, `{"num_instances": 3, "region": "moon", "instance_type": null}`, 3, "small"},
		{asJSON, `{"num_vms": 1, "num_instances": 1}`, 1, "small"},
		{asJSON, `{"num_vms": 1, "num_instances": "1"}`, 1, "small"},
		{asJSON, `{"num_vms": null, "num_instances": 1}`, 1, "small"},
		{asForm, "num_vms=2&instance_type=t2.medium", 2, "t2.medium"},
		{asForm, "num_vms=+1+&num_instances=&instance_type=", 0, ""}, // two numbers that differ
		{asForm, "num_instances=1", 1, "small"},
		{"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"num_vms\"\r\n\r\n2\r\n--x--\r\n", 2, "small"},
	} {
		r := s.send("/api/launch", tc.contentType, tc.body, asJSON)
		if tc.n == 0 {
			if r.Status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", tc.body, r.Status, r.Body)
			}
			continue
		}
		total += tc.n
		var op testkit.Operation
		r.JSON(t, &op)
		if r.Status != http.StatusAccepted || op.Kind != "launch" || op.State != "pending" || op.InstanceType != tc.instanceType || len(op.VMs) != tc.n {
			t.Fatalf("%d: %s: %d %s", i, tc.body, r.Status, r.Body)
		}
		path := fmt.Sprintf("/api/operations/%d", op.ID)
		if r.Header.Get("Location") != path || op.URL != path {
			t.Errorf("Location %q, url %q", r.Header.Get("Location"), op.URL)
		}
		if again := s.get(path); again.Status != http.StatusOK || again.Body != r.Body {
			t.Errorf("GET %s: %d %s, the launch was answered with %s", path, again.Status, again.Body, r.Body)
		}
	}
	// A program that sends JSON gets JSON, whatever it accepts; a browser goes on to the operation's page.
	if r := s.send("/api/launch", asJSON, `{"num_vms": 1}`, "*/*"); r.Status != http.StatusAccepted || r.Header.Get("Content-Type") != asJSON {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	r := s.send("/api/launch", asForm, "num_vms=1", "text/html,application/xhtml+xml,*/*;q=0.8")
	ops, err := s.Store.Operations(t.Context(), 1000)
	s.must(err)
	if want := fmt.Sprintf("/admin/operations/%d", ops[0].ID); r.Status != http.StatusSeeOther || r.Header.Get("Location") != want {
		t.Errorf("a browser: %d, Location %q, want %q", r.Status, r.Header.Get("Location"), want)
	}
	s.untouched(total+2, 12)
	if v, err := s.Store.VM(t.Context(), "lablink-client-1"); err != nil || v.Free() || v.Provider != "local" {
		t.Errorf("%+v, %v", v, err)
	}
	events, err := s.Store.Events(t.Context(), ops[0].Steps[0].VM, 1)
	s.must(err)
	if e := events[0]; e.What != "launch asked for" || e.Actor.Kind != "admin" || e.Actor.Address != "127.0.0.1" {
		t.Errorf("history %+v", e)
	}
}

func TestDestroy_Refused(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *config.Config) { c.Limits.BodyBytes = 4096 })
	s.Register("lab-1")
	s.Launch(3)
	const nobody = "nobody"
	for _, tc := range []struct {
		body        string
		status      int
		field, says string
	}{
		{`{}`, 400, "hostnames", "Say which VMs"}, {`{"hostnames": []}`, 400, "hostnames", "Say which"}, {`{"hostnames": null, "all": false}`, 400, "hostnames", "Say which"},
		{`{"hostnames": ["lablink-client-1"], "all": true, "confirm": 3}`, 400, "hostnames", "either"}, {`{"confirm": 3}`, 400, "hostnames", "Say which"},
		{`{"all": true}`, 400, "confirm", "whole number"}, {`{"all": true, "confirm": null}`, 400, "confirm", "whole number"},
		{`{"all": true, "confirm": 2}`, 400, "confirm", "there are 3 VMs, not 2"}, {`{"all": true, "confirm": 4}`, 400, "confirm", "type 3"},
		{`{"all": true, "confirm": 0}`, 400, "confirm", "not 0"}, {`{"all": true, "confirm": -3}`, 400, "confirm", "not -3"}, {`{"all": true, "confirm": 3.0}`, 400, "confirm", "whole number"},
		{`{"all": true, "confirm": "three"}`, 400, "confirm", "whole number"}, {`{"all": true, "confirm": 99999999999999999999}`, 400, "confirm", "out of range"},
		{`{"all": true, "confirm": [3]}`, 400, "confirm", "whole number"}, {`{"all": "true", "confirm": 3}`, 400, "all", "true or false"}, {`{"all": 1, "confirm": 3}`, 400, "all", "true or false"},
		{`{"hostnames": "lablink-client-1"}`, 400, "hostnames", "a list"}, {`{"hostnames": [1]}`, 400, "hostnames", "must be"}, {`{"hostnames": [["lablink-client-1"]]}`, 400, "hostnames", "must be"},
		{`{"hostnames": ["lablink-client-1", "nobody"]}`, 404, "hostnames", nobody}, {`{"hostnames": ["lablink-client-1", "lab-1"]}`, 409, "hostnames", "lab-1: registered by hand"},
		{`{"hostnames": ["lablink-client-1", "a\u0000"]}`, 400, "hostnames", "not a host name"}, {`{"hostnames": ["lablink-client-1", ""]}`, 400, "hostnames", "not a host name"},
		{`{"hostnames": ["LABLINK-CLIENT-1"]}`, 400, "hostnames", "not a host name"}, {`{"hostnames": ["*"]}`, 400, "hostnames", "not a host name"},
		{`{"hostnames": ["lablink-client-1' OR '1'='1"]}`, 400, "hostnames", "not a host name"}, {`{"hostnames": ["` + strings.Repeat("a", 1000) + `"]}`, 400, "hostnames", "aaa..."},
		{`{"hostnames": ["\ud800"]}`, 400, "hostnames", "not a host name"},
		{``, 400, "", "empty"}, {`[]`, 400, "", "JSON object"}, {`{"all": true, "confirm": 3`, 400, "", "ends too early"}, {`{"all": true, "confirm": 3}x`, 400, "", "after the JSON value"},
	} {
		s.refused("/destroy", asJSON, tc.body, tc.status, tc.field, tc.says)
	}
	for _, tc := range []struct {
		body        string
		status      int
		field, says string
	}{
		{"", 400, "hostnames", "Say which"}, {"all=", 400, "hostnames", "Say which"}, {"all=yes", 400, "confirm", "whole number"}, {"all=yes&confirm=2", 400, "confirm", "there are 3"},
		{"hostname=lablink-client-1&all=yes&confirm=3", 400, "hostnames", "either"}, {"hostname=nobody&hostname=lablink-client-1", 404, "hostnames", nobody},
		{"hostname=", 400, "hostnames", "not a host name"}, {"hostname=lablink-client-1%00", 400, "", "not text"},
		{"hostname=lablink-client-1&seen=lablink-client-1", 400, "seen", "damaged"}, {"hostname=lablink-client-1&seen=", 409, "", "Something has changed"},
		{"hostname=lablink-client-1&seen=lablink-client-1:7", 409, "", "Something has changed"}, {"all=yes&confirm=3&seen=lablink-client-1:0", 409, "", "Something has changed"},
	} {
		s.refused("/destroy", asForm, tc.body, tc.status, tc.field, tc.says)
	}
	s.refused("/destroy", "text/plain", `{"all": true, "confirm": 3}`, http.StatusUnsupportedMediaType, "", asJSON)
	s.refused("/destroy", asJSON, `{"hostnames": ["`+strings.Repeat(`a", "`, 1000)+`"]}`, http.StatusRequestEntityTooLarge, "", "4096 bytes")
	// The contract's request without a body destroys nothing.
	r := s.Do(t.Context(), testkit.Request{Path: "/destroy", Admin: true, Header: map[string]string{"Content-Type": "", "Accept": asJSON}})
	if r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "Say which VMs to destroy") {
		t.Errorf("without a body: %d %s", r.Status, r.Body)
	}
	s.untouched(4, 1)
}

func TestDestroy_Accepted(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Register("lab-1")
	s.Launch(7)
	destroyed := func(r testkit.Response, names ...string) {
		t.Helper()
		var op testkit.Operation
		r.JSON(t, &op)
		if r.Status != http.StatusAccepted || op.Kind != "destroy" || op.State != "pending" || fmt.Sprint(op.Hostnames("waiting")) != fmt.Sprint(names) || strings.Contains(r.Body, "instance_type") {
			t.Fatalf("%d %s, want %v", r.Status, r.Body, names)
		}
		if again := s.get(r.Header.Get("Location")); again.Status != http.StatusOK || again.Body != r.Body {
			t.Errorf("GET %q: %d %s, was %s", r.Header.Get("Location"), again.Status, again.Body, r.Body)
		}
	}
	destroyed(s.send("/destroy", asJSON, `{"hostnames": ["lablink-client-2", "lablink-client-1", "lablink-client-2"]}`, "*/*"), "lablink-client-1", "lablink-client-2")
	destroyed(s.send("/destroy", asForm, "hostname=lablink-client-3", asJSON), "lablink-client-3")
	destroyed(s.send("/destroy", asForm, "hostname=lablink-client-4&seen=lablink-client-4%3A0", asJSON), "lablink-client-4")
	r := s.send("/destroy", asForm, "hostname=lablink-client-5", "text/html")
	if r.Status != http.StatusSeeOther || r.Header.Get("Location") != "/admin/operations/5" {
		t.Errorf("a browser: %d, Location %q", r.Status, r.Header.Get("Location"))
	}
	s.untouched(3, 5)
	destroyed(s.send("/destroy", asJSON, `{"all": true, "confirm": "2", "hostnames": []}`, asJSON), "lablink-client-6", "lablink-client-7")
	s.refused("/destroy", asJSON, `{"all": true, "confirm": 0}`, http.StatusConflict, "", "no VM to destroy")
	s.refused("/destroy", asJSON, `{"hostnames": ["lablink-client-1"]}`, http.StatusNotFound, "hostnames", "lablink-client-1")
	s.untouched(1, 6)
}

// A server that makes no VMs says what to do about it.
func TestOperations_NoProvider(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	s := &site{Allocator: a, t: t}
	s.Register("lab-1")
	for _, says := range []string{"provider", "local or aws", "can be registered"} {
		s.refused("/api/launch", asJSON, `{"num_vms": 1}`, http.StatusConflict, "", says)
		s.refused("/api/launch", asForm, "num_vms=1", http.StatusConflict, "", says)
		s.refused("/destroy", asJSON, `{"all": true, "confirm": 1}`, http.StatusConflict, "", says)
		s.refused("/destroy", asForm, "hostname=lab-1", http.StatusConflict, "", says)
	}
	if r := s.get("/api/operations"); r.Status != http.StatusOK || r.Body != "{\"operations\":[]}\n" {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	s.untouched(1, 0)
}

// Nothing of this is for strangers, VMs or other websites.
func TestOperations_OnlyTheAdmin(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *config.Config) { c.Limits.LoginFailuresPerMinute = 1000 })
	token := s.Register("lab-1")["lab-1"]
	s.Launch(1)
	requests := []testkit.Request{
		{Path: "/api/launch", JSON: map[string]int{"num_vms": 1}}, {Path: "/api/launch", Form: "num_vms=1"},
		{Path: "/destroy", JSON: map[string]any{"all": true, "confirm": 1}}, {Path: "/destroy", Form: "all=yes&confirm=1"}, {Path: "/destroy"},
		{Path: "/api/operations/1/retry", JSON: map[string]any{}}, {Path: "/api/operations/1/stop", Form: "x=y"}, {Path: "/api/operations/99/stop"},
		{Method: http.MethodGet, Path: "/api/operations"}, {Method: http.MethodGet, Path: "/api/operations/1"}, {Method: http.MethodGet, Path: "/api/operations/99"},
		{Method: http.MethodGet, Path: "/api/operations/1/events"}, {Method: http.MethodGet, Path: "/api/operations/x"},
	}
	for _, r := range requests {
		for name, header := range map[string]map[string]string{
			"no log-in": nil, "a wrong one": {"Authorization": "Basic YWRtaW46d3Jvbmc="}, "a VM's token": {"Authorization": "Bearer " + token},
		} {
			r.Header = header
			got := s.Do(t.Context(), r)
			if got.Status != http.StatusUnauthorized {
				t.Errorf("%s with %s: %d %s", r.Path, name, got.Status, got.Body)
			}
			if !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("%s with %s: WWW-Authenticate %q", r.Path, name, got.Header.Get("WWW-Authenticate"))
			}
		}
	}
	for _, r := range requests {
		for _, header := range []map[string]string{
			{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		} {
			if r.Method == http.MethodGet {
				continue
			}
			r.Admin, r.Header = true, header
			if got := s.Do(t.Context(), r); got.Status != http.StatusForbidden {
				t.Errorf("%s with %v: %d %s", r.Path, header, got.Status, got.Body)
			}
		}
	}
	s.untouched(2, 1)
	if op := s.Operation(1); op.State != "pending" || op.Stopping {
		t.Errorf("the operation is %+v", op)
	}
	for path, allow := range map[string]string{
		"/api/launch": "POST", "/destroy": "POST", "/api/operations/1/stop": "POST", "/api/operations/1/retry": "POST",
		"/api/operations": "GET, HEAD", "/api/operations/1": "GET, HEAD", "/api/operations/1/events": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodPost, http.MethodGet} {
			if strings.Contains(allow, method) {
				continue
			}
			if r := s.Do(t.Context(), testkit.Request{Method: method, Path: path, Admin: true}); r.Status != http.StatusMethodNotAllowed || r.Header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, r.Status, r.Header.Get("Allow"))
			}
		}
	}
}
