package web_test

import (
	"fmt"
	"os"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"lablink/internal/fleet"
)

func TestZZServe(t *testing.T) {
	if os.Getenv("SERVE") == "" { return }
	s := newSite(t)
	var names []string
	for i := range 6 { names = append(names, fmt.Sprintf("lab-%02d", i+1)) }
	s.register(true, names...)
	s.register(false, "lab-07", "lab-08")
	people := []struct{ e string; st string }{{"ada@example.org","connected"},{"grace@example.org","failed"},{"alan@example.org","delivered"},{"linus@example.org","requested"},{"ken@example.org","assumed"}}
	for i, p := range people {
		b := s.browser()
		b.seated(p.e, code(i))
		c := ""
		u, _ := url.Parse(s.server.URL)
		for _, k := range b.client.Jar.Cookies(u) { c = k.Value }
		name := names[i]
		switch p.st {
		case "connected": s.report(name, fleet.EventConnect, "")
		case "failed": s.report(name, fleet.EventFail, "Google refused the code: it was used before or is too old. Codes work once, for a few minutes.")
		case "delivered": s.deliver(name)
		case "assumed": vm := s.vm(name); _ = s.store.Assumed(t.Context(), vm.ID, func() int64 { return s.deliver(name) }())
		}
		fmt.Println(p.st, c)
		os.WriteFile("/tmp/shots/cookie-"+p.st, []byte(c), 0o644)
	}
	target, _ := url.Parse(s.server.URL)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	srv := &http.Server{Addr: "127.0.0.1:7711", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if as := r.URL.Query().Get("as"); as != "" {
			r.Header.Set("Cookie", "lablink_browser="+as)
		}
		r.SetBasicAuth("admin", adminPassword)
		proxy.ServeHTTP(w, r)
	})}
	t.Log(srv.ListenAndServe())
}
