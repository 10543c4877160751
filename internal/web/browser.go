package web

import (
	"net/http"
	"strings"

	"lablink/internal/fleet"
)

const (
	browserCookie = "lablink_browser"
	browserMaxAge = 90 * 24 * 60 * 60 // seconds; longer than any workshop
	tokenLength   = 43                // of fleet.NewToken
)

// browserOf returns the hash of the token by which we know a browser, nil if it
// has none yet.
func browserOf(r *http.Request) []byte {
	c, err := r.Cookie(browserCookie)
	if err != nil || len(c.Value) != tokenLength {
		return nil
	}
	return fleet.HashToken(c.Value)
}

// noCookieError says that a form came without the cookie that its page has set.
// Whoever sends it would get a VM, and never see it.
type noCookieError struct {
	secure string // where the browser would keep it, "" if here
}

func (*noCookieError) Error() string { return "the browser did not keep the cookie" }

// text is what the person at that browser reads, with the address behind it.
func (e *noCookieError) text() string {
	const text = "Your browser did not keep our cookie, and without it you could not see your VM. "
	if e.secure != "" {
		return text + "It keeps it only if this site is opened by https."
	}
	return text + "Allow cookies for this site, then press the button again."
}

// wantCookie returns a noCookieError if a browser sent a form without our cookie,
// which the page that holds the form has set. Programs, which need no page, are
// let through: only browsers ask for an upgrade to https as they go to a page.
func (w *Web) wantCookie(r *http.Request, page string) error {
	if browserOf(r) != nil || r.Header.Get("Upgrade-Insecure-Requests") != "1" {
		return nil
	}
	e := &noCookieError{}
	// Behind a proxy only the browser knows how it reached us; all send their
	// origin with a form.
	if strings.HasPrefix(w.cfg.Server.PublicURL, "https://") && strings.HasPrefix(r.Header.Get("Origin"), "http://") {
		e.secure = strings.TrimRight(w.cfg.Server.PublicURL, "/") + page
	}
	return e
}

// knowBrowser is browserOf, and gives the browser a token if it has none.
func (w *Web) knowBrowser(rw http.ResponseWriter, r *http.Request) []byte {
	if browser := browserOf(r); browser != nil {
		return browser
	}
	return w.renewBrowser(rw, r)
}

// renewBrowser gives the browser a new token.
func (w *Web) renewBrowser(rw http.ResponseWriter, r *http.Request) []byte {
	token := fleet.NewToken()
	http.SetCookie(rw, &http.Cookie{ //nolint:gosec // Secure follows the public URL: a classroom may have no certificate
		Name: browserCookie, Value: token, Path: "/", MaxAge: browserMaxAge,
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: r.TLS != nil || strings.HasPrefix(w.cfg.Server.PublicURL, "https://"),
	})
	return fleet.HashToken(token)
}
