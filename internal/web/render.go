package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

//go:embed templates/*.html templates/parts/*.html
var templateFiles embed.FS

// pages holds the parsed template of each page by its file's name.
type pages map[string]*template.Template

func parsePages(a *assets) (pages, error) {
	base, err := template.New("").Funcs(template.FuncMap{"asset": a.address}).
		ParseFS(templateFiles, "templates/parts/*.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	parsed := pages{}
	for _, file := range files {
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(templateFiles, file); err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
		parsed[strings.TrimSuffix(path.Base(file), ".html")] = t
	}
	return parsed, nil
}

// frame is what every page hands to the layout around it.
type frame struct {
	Title string
	Nav   string // the admin's menu: which entry is open; "" for participants
	AWS   bool   // its menu has the AWS account
	Open  bool   // machines need no credential: the admin is told
	Watch bool   // without script, the page loads itself again
}

// page renders a page into memory and sends it. Pages hold what only their
// reader may see, so that no cache keeps them.
func (w *Web) page(rw http.ResponseWriter, status int, name string, view any) error {
	body, err := w.render(name, "layout", view)
	if err != nil {
		return err
	}
	send(rw, status, body)
	return nil
}

func (w *Web) render(name, block string, view any) ([]byte, error) {
	t := w.pages[name]
	if t == nil {
		return nil, fmt.Errorf("no template %q", name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, block, view); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func send(rw http.ResponseWriter, status int, body []byte) {
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	_, _ = rw.Write(body) // a reader that has gone needs no page
}

// messageView is the page with one message: errors, mostly.
type messageView struct {
	frame
	Heading string
	Text    string
	Back    link
	More    link
}

type link struct {
	Text, Address string
}

// Error is the httpx.ErrorWriter of pages. Callers that ask for JSON get it.
func (w *Web) Error(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	if httpx.WantsJSON(r) {
		httpx.JSONError(rw, r, status, e)
		return
	}
	view := messageView{
		frame:   frame{Title: headings[e.Kind]},
		Heading: headings[e.Kind],
		Text:    capitalized(e.Message),
		Back:    link{"Go to the start page", "/"},
	}
	if isAdmins(r, e) {
		view.Nav, view.AWS, view.Open = "instances", w.aws != nil, w.machinesOpen()
		view.Back = link{"Back to the machines", "/admin/instances"}
		switch h, id := r.PathValue("hostname"), r.PathValue("id"); {
		case h != "" && e.Kind == fleet.Conflict:
			view.Back = link{"Back to " + h, "/admin/instances/" + h}
		case id != "" && e.Kind == fleet.Conflict:
			view.Nav, view.Back = "operations", link{"Back to the operation", "/admin/operations/" + url.PathEscape(id)}
		case id != "":
			view.Nav, view.Back = "operations", link{"Back to the operations", "/admin/operations"}
		}
	}
	if status >= http.StatusInternalServerError && e.Kind == fleet.Internal {
		w.broken(rw, r)
		return
	}
	if err := w.page(rw, status, "message", view); err != nil {
		httpx.Logger(r.Context()).Error("error page failed", "error", err)
		w.broken(rw, r)
	}
}

// isAdmins reports whether an error is shown to the admin, who is logged in.
func isAdmins(r *http.Request, e *fleet.Error) bool {
	switch e.Kind {
	case fleet.Unauthenticated, fleet.Limited:
		return false
	case fleet.Conflict, fleet.NotFound:
		// The buttons of an operation's page post to the API.
		return strings.HasPrefix(r.URL.Path, "/admin/") || r.PathValue("id") != ""
	default:
		return strings.HasPrefix(r.URL.Path, "/admin/")
	}
}

var headings = map[fleet.Kind]string{
	fleet.Internal:         "Something went wrong here",
	fleet.Invalid:          "That cannot be right",
	fleet.Unauthenticated:  "Please log in",
	fleet.Forbidden:        "That is not allowed",
	fleet.NotFound:         "This page does not exist",
	fleet.Unprocessable:    "That is not good",
	fleet.Conflict:         "That is not possible right now",
	fleet.TooLarge:         "That is too much at once",
	fleet.UnsupportedMedia: "That cannot be read here",
	fleet.Limited:          "Too many tries",
	fleet.Unavailable:      "Not right now",
}

// numberPlaceholder stands in the page that is rendered at start for the number
// of the request that failed.
const numberPlaceholder = "REQUEST-NUMBER"

// renderBroken makes the page for our own failures ahead of them, so that a
// broken template or database cannot break it.
func (w *Web) renderBroken() ([]byte, error) {
	return w.render("message", "layout", messageView{
		frame:   frame{Title: headings[fleet.Internal]},
		Heading: headings[fleet.Internal],
		Text:    "It is not your fault. Try again in a moment. If it happens again, tell the organiser this number: " + numberPlaceholder,
		Back:    link{"Go to the start page", "/"},
	})
}

func (w *Web) broken(rw http.ResponseWriter, r *http.Request) {
	number := template.HTMLEscapeString(httpx.RequestID(r.Context()))
	send(rw, http.StatusInternalServerError, bytes.ReplaceAll(w.brokenPage, []byte(numberPlaceholder), []byte(number)))
}

func notFound(http.ResponseWriter, *http.Request) error {
	return fleet.Errorf(fleet.NotFound, "Check the address, or start again from the first page.")
}

// versionOf names the content of a view, so that a browser keeps what it shows
// already, with the reader's place in it.
func versionOf(view any) string {
	// Views are plain structs of texts and numbers: marshalling cannot fail.
	text, _ := json.Marshal(view) //nolint:errchkjson // see above
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// asFleetError returns err as an error that may be shown, nil if it is not one.
func asFleetError(err error) *fleet.Error {
	e, _ := errors.AsType[*fleet.Error](err) // nil if it is none
	return e
}
