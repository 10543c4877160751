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
