package web

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/cascadia"
	"golang.org/x/net/html"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/wait"
)

// views holds the struct that each page is rendered with.
var views = map[string]any{
	"home":             homeView{},
	"seat":             seatView{},
	"ended":            endedView{},
	"find":             findView{},
	"other_seat":       otherSeatView{},
	"message":          messageView{},
	"admin_overview":   overviewView{},
	"admin_instances":  instancesView{},
	"admin_instance":   instanceView{},
	"admin_create":     createView{},
	"admin_delete":     deleteView{},
	"admin_operations": operationsView{},
	"admin_operation":  operationView{},
	"admin_register":   registerView{},
	"admin_tokens":     tokensView{},
	"admin_pin":        pinView{},
	"admin_aws":        awsView{},
	"admin_log":        logView{},
	"admin_logs":       logsView{},
}

func newPages(t *testing.T) *Web {
	t.Helper()
	w, err := New(Options{Feed: wait.NewFeed(), Config: &config.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func renderPage(t *testing.T, w *Web, name string, view any) string {
	t.Helper()
	body, err := w.render(name, "layout", view)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEveryPageHasItsView(t *testing.T) {
	t.Parallel()
	have, want := slices.Sorted(maps.Keys(newPages(t).pages)), slices.Sorted(maps.Keys(views))
	if !slices.Equal(have, want) {
		t.Errorf("templates %v, views %v", have, want)
	}
}

const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}javascript:alert(1)`

// filled returns a view in which every text is hostile, every list has two
// entries and every number and truth is set.
func filled(view any) any {
	v := reflect.New(reflect.TypeOf(view)).Elem()
	fill(v)
	return v.Interface()
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f)
		}
	default:
		panic("a view holds a " + v.Kind().String())
	}
}

func TestPagesRender(t *testing.T) {
	t.Parallel()
	w := newPages(t)
	for name, empty := range views {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkPage(t, w, renderPage(t, w, name, empty))
			full := renderPage(t, w, name, filled(empty))
			checkPage(t, w, full)
			if !strings.Contains(full, "alert(1)") {
				t.Error("the page shows nothing of its view")
			}
		})
	}
}

func TestSeatPageInEveryState(t *testing.T) {
	t.Parallel()
	w := newPages(t)
	now := time.Now()
	for _, state := range fleet.SeatStates {
		for _, waiting := range []bool{true, false} {
			seat := fleet.Seat{Hostname: "lab-1", Email: "a@example.org", PIN: "123456", State: state, Changed: now.Add(-time.Hour), Waiting: waiting}
			panel := panelOf(seat, now, time.Second)
			for _, form := range []codeForm{{}, {hostile, hostile}} {
				view := seatView{frame: frame{Title: panel.Title()}, Hostname: "lab-1", PIN: "123456", Digits: spacedPIN("123456"), Panel: panel, Form: form}
				checkPage(t, w, renderPage(t, w, "seat", view))
			}
			for _, block := range []string{"panel-live", "said"} {
				if _, err := w.render("seat", block, panel); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// checkPage checks what holds for every page, whatever it shows.
func checkPage(t *testing.T, w *Web, page string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", strings.HasPrefix(a.Key, "hx-on"):
				t.Errorf("<%s> has %s=%q: the content security policy forbids it", n.Data, a.Key, a.Val)
			case (a.Key == "href" || a.Key == "src" || a.Key == "action") && strings.HasPrefix(a.Val, "javascript:"):
				t.Errorf("<%s> leads to %q", n.Data, a.Val)
			case (a.Key == "href" || a.Key == "src") && strings.HasPrefix(a.Val, "/static/"):
				if name, _, _ := strings.Cut(strings.TrimPrefix(a.Val, "/static/"), "?"); w.assets.files[name].plain == nil {
					t.Errorf("<%s> refers to %q, which does not exist", n.Data, a.Val)
				}
			case a.Key == "id":
				if ids[a.Val] {
					t.Errorf("the id %q is there twice", a.Val)
				}
				ids[a.Val] = !strings.Contains(a.Val, "alert") && !strings.HasSuffix(a.Val, "-7") // lists of equal entries
			}
		}
	}
	count := func(selector string) int { return len(cascadia.QueryAll(doc, cascadia.MustCompile(selector))) }
	for _, forbidden := range []string{"style", "script:not([src])", "img:not([alt])", "a:not([href])", "button:not([type])", `a[target="_blank"]:not([rel~="noopener"])`} {
		if n := count(forbidden); n > 0 {
			t.Errorf("%d elements %s", n, forbidden)
		}
	}
	for _, one := range []string{"title", "h1", "main", "html[lang]"} {
		if n := count(one); n != 1 {
			t.Errorf("%d elements %s, want 1", n, one)
		}
	}
	if n := count("script") - count(`script[src^="/static/log."]`); n != 3 { // the page of a log has one of its own
		t.Errorf("%d scripts, want htmx, its extension and ours", n)
	}
	for _, input := range cascadia.QueryAll(doc, cascadia.MustCompile(`input:not([type="hidden"]), textarea`)) {
		id := ""
		for _, a := range input.Attr {
			if a.Key == "id" {
				id = a.Val
			}
		}
		if input.Parent.Data != "label" && (id == "" || count(`label[for="`+id+`"]`) != 1) {
			t.Errorf("a field has no label: %v", input.Attr)
		}
	}
}

func TestBrokenPageNamesTheRequestOnly(t *testing.T) {
	t.Parallel()
	w := newPages(t)
	w.pages = nil // nothing can be rendered any more
	rec := httptest.NewRecorder()
	w.Error(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), http.StatusInternalServerError, fleet.Errorf(fleet.Internal, "secret"))
	if rec.Code != http.StatusInternalServerError || !strings.Contains(rec.Body.String(), "Something went wrong") ||
		strings.Contains(rec.Body.String(), "secret") || strings.Contains(rec.Body.String(), numberPlaceholder) {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
}
