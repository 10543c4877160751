package httpx

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

func hashOf(t *testing.T, password string) *string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := string(hash)
	return &s
}

// adminSite lets only the admin through, whose password's hash may change.
func adminSite(t *testing.T, hash *atomic.Pointer[string], failures int) *site {
	t.Helper()
	admin := NewAdmin("admin", func(context.Context) (string, error) { return *hash.Load(), nil }, NewLimiter(1, failures), false)
	return serve(t, admin.Require(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), JSONError))
}

func login(t *testing.T, s *site, user, password string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	return s.send(t, http.MethodGet, "/", "", "Authorization", req.Header.Get("Authorization"))
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	var hash atomic.Pointer[string]
	hash.Store(hashOf(t, "right"))
	s := adminSite(t, &hash, 100)
	for name, a := range map[string]answer{
		"nothing":        s.send(t, http.MethodGet, "/", ""),
		"another scheme": s.send(t, http.MethodGet, "/", "", "Authorization", "Bearer right"),
		"wrong password": login(t, s, "admin", "wrong"),
		"wrong user":     login(t, s, "root", "right"),
		"empty":          login(t, s, "", ""),
		"endless":        login(t, s, "admin", strings.Repeat("a", 1000)),
	} {
		if a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic realm=") {
			t.Errorf("%s: %d, WWW-Authenticate %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
	for range 3 {
		if a := login(t, s, "admin", "right"); a.status != http.StatusOK {
			t.Errorf("the right password: %d", a.status)
		}
	}
	if strings.Contains(s.log.String(), "wrong\"") || strings.Contains(s.log.String(), "right") {
		t.Errorf("a password is in the log:\n%s", s.log.String())
	}
	// A new password counts from the next request on, also against what was right a moment ago.
	hash.Store(hashOf(t, "new"))
	if a := login(t, s, "admin", "right"); a.status != http.StatusUnauthorized {
		t.Errorf("the old password: %d", a.status)
	}
	if a := login(t, s, "admin", "new"); a.status != http.StatusOK {
		t.Errorf("the new password: %d", a.status)
	}
	hash.Store(new(string))
	if a := login(t, s, "admin", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("no password is set: %d", a.status)
	}
}

func TestAdmin_OnlyFailuresCount(t *testing.T) {
	t.Parallel()
	var hash atomic.Pointer[string]
	hash.Store(hashOf(t, "right"))
	s := adminSite(t, &hash, 3)
	for range 10 {
		if a := login(t, s, "admin", "right"); a.status != http.StatusOK {
			t.Fatalf("a right log-in: %d", a.status)
		}
		if a := s.send(t, http.MethodGet, "/", ""); a.status != http.StatusUnauthorized {
			t.Fatalf("without a log-in: %d", a.status)
		}
	}
	for n := range 3 {
		if a := login(t, s, "admin", "wrong"); a.status != http.StatusUnauthorized {
			t.Fatalf("failure %d: %d", n+1, a.status)
		}
	}
	a := login(t, s, "admin", "wrong")
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("the fourth failure: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	// Otherwise a guess could be tried against the log-in that is remembered.
	if a := login(t, s, "admin", "right"); a.status != http.StatusTooManyRequests {
		t.Errorf("the right password within the ban: %d", a.status)
	}
}

// Guesses at once are counted one by one.
func TestAdmin_GuessesAtOnce(t *testing.T) {
	t.Parallel()
	var hash atomic.Pointer[string]
	hash.Store(hashOf(t, "right"))
	s := adminSite(t, &hash, 5)
	answers := make(chan int, 40)
	for range cap(answers) {
		go func() { answers <- login(t, s, "admin", "wrong").status }()
	}
	checked := 0
	for range cap(answers) {
		if status := <-answers; status == http.StatusUnauthorized {
			checked++
		} else if status != http.StatusTooManyRequests {
			t.Errorf("status %d", status)
		}
	}
	if checked != 5 {
		t.Errorf("%d of 40 guesses were checked, want 5", checked)
	}
}

// Somebody behind the same address who guesses passwords must not lock out the
// organiser who has logged in before.
func TestAdmin_NeighbourGuesses(t *testing.T) {
	t.Parallel()
	var hash atomic.Pointer[string]
	hash.Store(hashOf(t, "right"))
	s := adminSite(t, &hash, 3)
	first := login(t, s, "admin", "right")
	pass, err := http.ParseSetCookie(first.header.Get("Set-Cookie"))
	if err != nil || !pass.HttpOnly || pass.SameSite != http.SameSiteStrictMode {
		t.Fatalf("cookie %q, %v", first.header.Get("Set-Cookie"), err)
	}
	for range 4 {
		login(t, s, "admin", "guess")
	}
	if a := login(t, s, "admin", "right"); a.status != http.StatusTooManyRequests {
		t.Fatalf("without the cookie: %d, want 429", a.status)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "right")
	with := func(authorization string) answer {
		return s.send(t, http.MethodGet, "/", "", "Authorization", authorization, "Cookie", pass.Name+"="+pass.Value)
	}
	if a := with(req.Header.Get("Authorization")); a.status != http.StatusOK {
		t.Errorf("with the cookie: %d", a.status)
	}
	if a := with(""); a.status != http.StatusUnauthorized {
		t.Errorf("the cookie alone opens the page: %d", a.status)
	}
	req.SetBasicAuth("admin", "guess")
	for range 3 {
		with(req.Header.Get("Authorization"))
	}
	if a := with(req.Header.Get("Authorization")); a.status != http.StatusTooManyRequests {
		t.Errorf("guesses with the cookie are not limited: %d", a.status)
	}
}
