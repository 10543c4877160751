package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status says what a VM reported of itself, or what we know of its life.
type Status string

// The statuses. A VM may report all but StatusProvisioning and StatusDestroyed.
const (
	StatusProvisioning Status = "provisioning" // asked for, not yet heard of
	StatusInitializing Status = "initializing"
	StatusRunning      Status = "running"
	StatusRebooting    Status = "rebooting"
	StatusError        Status = "error"
	StatusUnknown      Status = "unknown"
	StatusDestroyed    Status = "destroyed" // the row stays, the machine is gone
)

// Reportable lists the statuses that a VM may post.
var Reportable = []Status{StatusInitializing, StatusRunning, StatusError, StatusUnknown, StatusRebooting}

// ParseReported reads a status that a VM posted.
func ParseReported(s string) (Status, error) {
	for _, ok := range Reportable {
		if s == string(ok) {
			return ok, nil
		}
	}
	return "", FieldErrorf("status", "status %q is not one of initializing, running, error, unknown, rebooting", clip(s))
}

// Health is the state of the GPU as check_gpu reports it; empty until it did.
type Health string

// The values of Health.
const (
	Healthy       Health = "Healthy"
	Unhealthy     Health = "Unhealthy"
	NotApplicable Health = "N/A"
)

// ParseHealth reads a GPU status that a VM posted.
func ParseHealth(s string) (Health, error) {
	switch h := Health(s); h {
	case Healthy, Unhealthy, NotApplicable:
		return h, nil
	default:
		return "", FieldErrorf("gpu_status", "gpu_status %q is not one of Healthy, Unhealthy, N/A", clip(s))
	}
}

// ProviderRegistered marks a VM that was registered by hand, not made by
// Terraform.
const ProviderRegistered = "registered"

// VM is a machine that a participant will use, with the seat it holds.
type VM struct {
	ID          int64
	Hostname    string
	Provider    string
	Status      Status
	Problem     string // why it is in error, in its own words; "" if it is not, or did not say
	Health      Health
	InUse       bool
	Waiting     bool // its agent is in a held poll, at any replica
	Email       string
	Seat        SeatState
	Reason      string    // why the seat failed or could not be cleaned
	SeatSince   time.Time // zero without a seat
	SeatChanged time.Time // when Seat last changed, zero if it never did
	CreatedAt   time.Time
	LastSeen    time.Time // zero if never; a waiting VM is seen now
	Startup     StartupTimes

	// Of VMs that Terraform makes.
	Creation     Creation
	InstanceType string
	Machine      string // what the provider calls it; "" if unknown
	Address      string // "" if unknown
}

// Free reports whether a participant may get the VM. The SQL of the store holds
// the same rule; a test compares them.
func (v VM) Free() bool {
	return v.Status == StatusRunning && v.Seat == SeatNone && v.Health != Unhealthy
}

// StartupTimes are the durations of a VM's three start-up phases, 0 if unknown.
type StartupTimes struct {
	Terraform, CloudInit, Container time.Duration
}

// Total is the sum, 0 until all that apply are known: a VM that Terraform did
// not make has no Terraform phase, and one without cloud-init none of that.
func (s StartupTimes) Total() time.Duration {
	return s.Terraform + s.CloudInit + s.Container
}

// Counts are the numbers of the admin's front page.
type Counts struct {
	Total, Free, Waiting, Silent, Trouble, Broken int
	Seats                                         map[SeatState]int
}

// reservedHostnames are words that stand in the place of a hostname in the
// addresses of pages.
var reservedHostnames = []string{"delete", "events", "register"}

// ValidateHostname checks an RFC 1123 label: it becomes a Terraform key, a log
// stream and the name that the participant looks for at Google.
func ValidateHostname(h string) error {
	ok := len(h) >= 1 && len(h) <= 63 && h[0] != '-' && h[len(h)-1] != '-'
	for _, r := range h {
		ok = ok && ('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
	}
	if slices.Contains(reservedHostnames, h) {
		return FieldErrorf("hostname", "%q is the name of a page here: choose another host name", h)
	}
	if !ok {
		return FieldErrorf("hostname", "%q is not a valid host name: 1 to 63 of a-z, 0-9 and -, not starting or ending with -", clip(h))
	}
	return nil
}

// MaxRegisterBatch is how many machines may be registered at once.
const MaxRegisterBatch = 1000

// ValidateHostnames checks a list of machines to register: 1 to
// MaxRegisterBatch valid names, none twice.
func ValidateHostnames(names []string) error {
	if len(names) == 0 || len(names) > MaxRegisterBatch {
		return FieldErrorf("hostnames", "give 1 to %d host names, not %d", MaxRegisterBatch, len(names))
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if err := ValidateHostname(name); err != nil {
			return err
		}
		if seen[name] {
			return FieldErrorf("hostnames", "%q is in the list twice", name)
		}
		seen[name] = true
	}
	return nil
}

// NormalizeEmail trims an e-mail address and checks that it looks like one.
// Seats are unique by its lower-case form.
func NormalizeEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	local, domain, _ := strings.Cut(s, "@")
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`<>()",;:\`, r) }
	switch {
	case s == "":
		return "", FieldErrorf("email", "Type your e-mail address.")
	case len(s) > 254:
		return "", FieldErrorf("email", "That e-mail address is too long (%d characters, at most 254).", len(s))
	case local == "" || domain == "" || strings.ContainsFunc(s, odd) || strings.Contains(domain, "@"):
		return "", FieldErrorf("email", "That does not look like an e-mail address. It needs a name, an @ and a domain, like ada@example.org.")
	}
	return s, nil
}

// NewToken returns a fresh credential of 256 bits, for a VM or a browser.
func NewToken() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// HashToken returns what is stored of a token. Tokens are random and long, so
// that a fast hash is enough.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// NewPIN returns six random digits, uniformly.
func NewPIN() string {
	const limit = 1 << 32 / 1_000_000 * 1_000_000
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		if n := binary.LittleEndian.Uint32(b[:]); uint64(n) < limit {
			return fmt.Sprintf("%06d", n%1_000_000)
		}
	}
}

// Actor is who made a change, for the record: "admin", "participant", "vm" or
// "system", with the address it came from.
type Actor struct {
	Kind    string
	Address string
}

// Event is one line of a VM's history.
type Event struct {
	At     time.Time
	Actor  Actor
	What   string // such as "seat requested" or "status running"
	Detail string // such as the participant's e-mail; never a code, PIN or token
}
