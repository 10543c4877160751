package httpx

import (
	"compress/gzip"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// target has a field of each type that our bodies have.
type target struct {
	Name   string   `json:"name"`
	Status *bool    `json:"status"`
	Count  int64    `json:"count"`
	Size   *float64 `json:"size"`
	List   []string `json:"list"`
}

func jsonSite(t *testing.T, limit int64) *site {
	t.Helper()
	protected, err := Protect(Adapt(func(w http.ResponseWriter, r *http.Request) error {
		var v target
		if err := ReadJSON(r, &v); err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, v)
	}, JSONError), "", limit, JSONError)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, protected)
}

func TestReadJSON(t *testing.T) {
	t.Parallel()
	const json = "application/json"
	s := jsonSite(t, 1024)
	for name, tc := range map[string]struct {
		contentType, body string
		status            int
		says              string
	}{
		"fine":                    {json, `{"name": "a", "status": true, "count": 1, "size": 0.5, "list": ["b"]}`, 200, `"name":"a"`},
		"with charset":            {"application/json; charset=utf-8", `{}`, 200, ""},
		"a dialect":               {"application/problem+json", `{}`, 200, ""},
		"unknown fields":          {json, `{"name": "a", "new": [1, {}]}`, 200, `"name":"a"`},
		"space around":            {json, " \n{}\n\t ", 200, ""},
		"nothing":                 {json, ``, 400, "empty"},
		"cut":                     {json, `{"name": "a`, 400, "ends too early"},
		"trailing garbage":        {json, `{} x`, 400, "after the JSON value"},
		"two values":              {json, `{}{}`, 400, "after the JSON value"},
		"no JSON":                 {json, `name=a`, 400, "not valid JSON"},
		"a list":                  {json, `[]`, 400, "must be a JSON object, not array"},
		"a word":                  {json, `"a"`, 400, "must be a JSON object, not string"},
		"a number for text":       {json, `{"name": 7}`, 400, "name must be a string, not number"},
		"text for yes or no":      {json, `{"status": "true"}`, 400, "status must be true or false, not string"},
		"half a delivery":         {json, `{"count": 1.5}`, 400, "count must be a whole number, not number 1.5"},
		"text for a number":       {json, `{"size": "1"}`, 400, "size must be a number, not string"},
		"text for a list":         {json, `{"list": "a"}`, 400, "list must be a list, not string"},
		"deep":                    {json, strings.Repeat("[", 500), 400, ""},
		"too large":               {json, `{"name": "` + strings.Repeat("a", 1024) + `"}`, 413, "limit of 1024 bytes"},
		"large after the value":   {json, `{}` + strings.Repeat(" ", 2048) + `x`, 400, ""},
		"no content type":         {"", `{}`, 415, "application/json"},
		"a form":                  {"application/x-www-form-urlencoded", `{}`, 415, "application/json"},
		"an odd content type":     {"application/json; =", `{}`, 415, "application/json"},
		"looks like JSON, is not": {"application/jsonp", `{}`, 415, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.send(t, http.MethodPost, "/", tc.body, "Content-Type", tc.contentType)
			if a.status != tc.status || !strings.Contains(a.body, tc.says) {
				t.Errorf("%d %s, want %d with %q", a.status, a.body, tc.status, tc.says)
			}
			if tc.status != 200 && !strings.Contains(a.body, `"error":`) {
				t.Errorf("the error is no JSON: %s", a.body)
			}
		})
	}
}

func TestReadForm(t *testing.T) {
	t.Parallel()
	protected, err := Protect(Adapt(func(w http.ResponseWriter, r *http.Request) error {
		if err := ReadForm(r); err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, r.PostFormValue("a"))
	}, JSONError), "", 1024, JSONError)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, protected)
	const form = "application/x-www-form-urlencoded"
	part := func(value string) string {
		return "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + value + "\r\n--xx--\r\n"
	}
	for name, tc := range map[string]struct {
		contentType, body string
		status            int
		says              string
	}{
		"fine":              {form, "a=" + url.QueryEscape("ä b"), 200, `"ä b"`},
		"in parts":          {"multipart/form-data; boundary=xx", part("ä b"), 200, `"ä b"`},
		"nothing":           {form, "", 200, `""`},
		"too large":         {form, "a=" + strings.Repeat("b", 1024), 413, "limit of 1024 bytes"},
		"too large, parts":  {"multipart/form-data; boundary=xx", part(strings.Repeat("b", 1024)), 413, "limit of 1024 bytes"},
		"parts cut":         {"multipart/form-data; boundary=xx", part("b")[:60], 400, "could not be read"},
		"no boundary":       {"multipart/form-data", part("b"), 400, "could not be read"},
		"bad escape":        {form, "a=%zz", 400, "could not be read"},
		"not UTF-8":         {form, "a=%ff", 400, "not text"},
		"NUL":               {form, "a=b%00c", 400, "not text"},
		"not UTF-8, parts":  {"multipart/form-data; boundary=xx", part("\xff"), 400, "not text"},
		"NUL in other name": {form, "a=b&c=%00", 400, "not text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.send(t, http.MethodPost, "/", tc.body, "Content-Type", tc.contentType)
			if a.status != tc.status || !strings.Contains(a.body, tc.says) {
				t.Errorf("%d %s, want %d with %q", a.status, a.body, tc.status, tc.says)
			}
		})
	}
}

// What PostgreSQL would refuse as text is refused before it gets there.
func TestProtect_AddressIsText(t *testing.T) {
	t.Parallel()
	protected, err := Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "", 1024, JSONError)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, protected)
	for path, want := range map[string]int{
		"/ok": 200, "/%C3%A4?q=%C3%A4": 200, "/?100%": 200, "/%00": 400, "/a%FFb": 400, "/?q=%00": 400, "/?q=a&q=%FF": 400,
	} {
		if a := s.send(t, http.MethodGet, path, ""); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
}

func TestProtect_CrossSite(t *testing.T) {
	t.Parallel()
	protected, err := Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "https://lablink.example.org", 1024, JSONError)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, protected)
	for name, tc := range map[string]struct {
		method string
		header []string
		want   int
	}{
		"curl":                      {http.MethodPost, nil, 200},
		"our own page":              {http.MethodPost, []string{"Sec-Fetch-Site", "same-origin"}, 200},
		"typed address":             {http.MethodPost, []string{"Sec-Fetch-Site", "none"}, 200},
		"behind a proxy":            {http.MethodPost, []string{"Origin", "https://lablink.example.org"}, 200},
		"behind a proxy, new":       {http.MethodPost, []string{"Origin", "https://lablink.example.org", "Sec-Fetch-Site", "cross-site"}, 200},
		"old browser, our own page": {http.MethodPost, []string{"Origin", s.URL}, 200},
		"another site":              {http.MethodPost, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a sister site":             {http.MethodPost, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"another origin":            {http.MethodPost, []string{"Origin", "https://evil.example"}, 403},
		"a sandbox":                 {http.MethodPost, []string{"Origin", "null"}, 403},
		"a link":                    {http.MethodGet, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 200},
		"delete from another site":  {http.MethodDelete, []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.send(t, tc.method, "/", "", tc.header...)
			if a.status != tc.want {
				t.Errorf("%d %s, want %d", a.status, a.body, tc.want)
			}
			if a.header.Get("Content-Security-Policy") == "" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") == "" {
				t.Errorf("security headers are missing: %v", a.header)
			}
		})
	}
	if _, err := Protect(nil, "no URL", 1, JSONError); err == nil {
		t.Error("a public URL that is none was accepted")
	}
}

// A route may take larger bodies once it knows who sends them, also compressed,
// and bounds what they decompress to.
func TestAllowBody(t *testing.T) {
	t.Parallel()
	const most = 4096
	protected, err := Protect(Adapt(func(w http.ResponseWriter, r *http.Request) error {
		if r.Header.Get("Authorization") != "" {
			AllowBody(r, most)
		}
		if err := Decompress(r, most); err != nil {
			return err
		}
		var v target
		if err := ReadJSON(r, &v); err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, len(v.Name))
	}, JSONError), "", 100, JSONError)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, protected)
	body := func(n int) string { return `{"name": "` + strings.Repeat("x", n) + `"}` }
	zipped := func(s string) string {
		var b strings.Builder
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(s)) // to memory
		_ = w.Close()
		return b.String()
	}
	for name, tc := range map[string]struct {
		body, encoding string
		known          bool
		status         int
		says           string
	}{
		"a stranger":              {body(200), "", false, 413, "100 bytes"},
		"somebody known":          {body(2000), "", true, 200, "2000"},
		"too much":                {body(5000), "", true, 413, "4096 bytes"},
		"compressed":              {zipped(body(3000)), "gzip", true, 200, "3000"},
		"too much in little":      {zipped(body(100_000)), "gzip", true, 413, "4096 bytes"},
		"too much for a stranger": {zipped(body(100_000)), "gzip", false, 413, "bytes"},
		"cut":                     {zipped(body(3000))[:40], "gzip", true, 400, "ends too early"},
		"not compressed":          {body(10), "gzip", true, 400, "body"},
		"otherwise compressed":    {body(10), "br", true, 415, "gzip"},
	} {
		header := []string{"Content-Type", "application/json", "Content-Encoding", tc.encoding}
		if tc.known {
			header = append(header, "Authorization", "known")
		}
		if a := s.send(t, http.MethodPost, "/", tc.body, header...); a.status != tc.status || !strings.Contains(a.body, tc.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, a.status, a.body, tc.status, tc.says)
		}
	}
}
