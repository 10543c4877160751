package httpx

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"lablink/internal/fleet"
)

// Admin checks the log-in of the one admin by HTTP Basic.
type Admin struct {
	user     string
	hash     func(context.Context) (string, error) // the bcrypt hash; another replica may change it
	failures *Limiter
	secure   bool // the public URL is https

	checking sync.Mutex // one bcrypt at a time, so that attempts at once are counted one by one
	key      [32]byte   // of this process, for known
	mu       sync.Mutex
	known    []byte // keyed digest of the hash and password that were right last
}

// NewAdmin returns the log-in of user, whose password's bcrypt hash is read by
// hash. Only failed attempts count against failures, by address.
// secure keeps its cookie to TLS.
func NewAdmin(user string, hash func(context.Context) (string, error), failures *Limiter, secure bool) *Admin {
	a := &Admin{user: user, hash: hash, failures: failures, secure: secure}
	_, _ = rand.Read(a.key[:]) // never fails: crypto/rand.Read ends the program instead
	return a
}

// Require lets only the admin through. write renders the refusal.
func (a *Admin) Require(next http.Handler, write ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.check(w, r); err != nil {
			if fleet.KindOf(err) == fleet.Unauthenticated {
				w.Header().Set("WWW-Authenticate", `Basic realm="LabLink admin", charset="UTF-8"`)
			}
			WriteError(w, r, err, write)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *Admin) check(w http.ResponseWriter, r *http.Request) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		return fleet.Errorf(fleet.Unauthenticated, "Log in as the organiser to see this page.")
	}
	ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
	defer cancel()
	hash, err := a.hash(ctx)
	if err != nil {
		return err
	}
	// A browser that has logged in before has an allowance of its own: somebody in
	// the same classroom, behind the same address, must not lock the organiser out.
	addr := ClientAddr(r)
	if pass, err := r.Cookie(passCookie); err == nil && hmac.Equal([]byte(pass.Value), []byte(passOf(hash))) {
		addr = "pass " + addr
	}
	if err := a.tooMany(addr); err != nil {
		return err
	}
	digest := a.digest(hash, user, password)
	if a.isKnown(digest) {
		a.givePass(w, r, hash)
		return nil
	}
	a.checking.Lock()
	defer a.checking.Unlock()
	if err := a.tooMany(addr); err != nil {
		return err
	}
	if hash == "" {
		return fleet.Errorf(fleet.Unavailable, "No admin password is set. Run: lablink admin reset-password")
	}
	// The password is checked whatever the user name is, so that time tells nothing.
	err = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	rightUser := subtle.ConstantTimeCompare([]byte(user), []byte(a.user)) == 1
	switch {
	case err == nil && rightUser:
		a.mu.Lock()
		a.known = digest
		a.mu.Unlock()
		a.givePass(w, r, hash)
		return nil
	case err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) && !errors.Is(err, bcrypt.ErrPasswordTooLong):
		return err
	}
	a.failures.Allow(addr)
	Logger(r.Context()).Warn("wrong admin log-in", "address", addr)
	return fleet.Errorf(fleet.Unauthenticated, "The user name or password is wrong.")
}

// passCookie marks a browser that has logged in. It opens nothing by itself.
const passCookie = "lablink_pass"

const passMaxAge = 90 * 24 * 60 * 60 // seconds

// passOf derives the mark from the password's hash, which every replica knows
// and nobody else: it ends when the password is changed.
func passOf(hash string) string {
	mac := hmac.New(sha256.New, []byte(hash))
	mac.Write([]byte("a browser of the admin"))
	return hex.EncodeToString(mac.Sum(nil))
}

func (a *Admin) givePass(w http.ResponseWriter, r *http.Request, hash string) {
	if c, err := r.Cookie(passCookie); err == nil && c.Value == passOf(hash) {
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure follows the public URL, and the cookie opens nothing
		Name: passCookie, Value: passOf(hash), Path: "/", MaxAge: passMaxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: a.secure || r.TLS != nil,
	})
}

func (a *Admin) tooMany(addr string) error {
	if retry, yes := a.failures.Exhausted(addr); yes {
		return &fleet.Error{Kind: fleet.Limited, RetryAfter: retry,
			Message: "Too many wrong log-ins from your address. Wait a minute and try again."}
	}
	return nil
}

// digest stands for a log-in that was checked. Pages would otherwise pay for
// bcrypt with each request; it ends with the process or a change of the hash.
func (a *Admin) digest(hash, user, password string) []byte {
	mac := hmac.New(sha256.New, a.key[:])
	for _, s := range []string{hash, user, password} {
		sum := sha256.Sum256([]byte(s))
		mac.Write(sum[:])
	}
	return mac.Sum(nil)
}

func (a *Admin) isKnown(digest []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known != nil && hmac.Equal(a.known, digest)
}
