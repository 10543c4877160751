package httpx

import (
	"fmt"
	"io"
	"net/http"

	"lablink/internal/fleet"
)

// contentSecurityPolicy allows our own files only: no inline script or style, no
// frame, no form to elsewhere.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"

// Protect wraps the whole mux, before routing: it refuses cross-site requests
// that change something, limits bodies, sets the security headers, and refuses
// addresses that PostgreSQL would not take for text.
// publicURL, if known, is trusted as an origin; it is what browsers see where a
// proxy changes the Host header.
func Protect(next http.Handler, publicURL string, maxBody int64, write ErrorWriter) (http.Handler, error) {
	csrf := http.NewCrossOriginProtection()
	if publicURL != "" {
		if err := csrf.AddTrustedOrigin(publicURL); err != nil {
			return nil, fmt.Errorf("public URL: %w", err)
		}
	}
	csrf.SetDenyHandler(Adapt(func(http.ResponseWriter, *http.Request) error {
		return fleet.Errorf(fleet.Forbidden, "This request came from another website, so it was refused. Open the page here and try again.")
	}, write))
	badText := Adapt(func(http.ResponseWriter, *http.Request) error {
		return fleet.Errorf(fleet.Invalid, "The address holds characters that are not text.")
	}, write)
	protected := csrf.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		// Not "no-referrer": with that, browsers send "Origin: null" with our own forms.
		h.Set("Referrer-Policy", "same-origin")
		r.Body = &limitedBody{ReadCloser: http.MaxBytesReader(w, r.Body, maxBody), whole: r.Body, w: w}
		if !isText(r.URL.Path) || !areText(r.URL.Query()) {
			badText.ServeHTTP(w, r)
			return
		}
		protected.ServeHTTP(w, r)
	}), nil
}

// limitedBody is a body under the limit of Protect.
type limitedBody struct {
	io.ReadCloser
	whole io.ReadCloser
	w     http.ResponseWriter
}

// AllowBody puts another limit on a body than Protect has. It is for callers that
// have shown who they are: strangers may send no more than a form.
func AllowBody(r *http.Request, most int64) {
	if b, ok := r.Body.(*limitedBody); ok {
		r.Body = http.MaxBytesReader(b.w, b.whole, most)
	}
}
