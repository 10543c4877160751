// Package crd sets Chrome Remote Desktop up on this machine and takes it down
// again, with Google's own programs: start-host, and the chrome-remote-desktop
// script beside it.
package crd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// DefaultStartHost is where Google's Debian package puts start-host.
const DefaultStartHost = "/opt/google/chrome-remote-desktop/start-host"

// Config says where Google's programs are and for whom they work. The zero
// values of all but StartHost have a meaning or a default.
type Config struct {
	StartHost   string        // path of start-host
	User        string        // whose desktop it is; empty: the agent's own user
	Home        string        // of the agent's own user, where User is empty; $HOME
	Timeout     time.Duration // for a set-up; 2 minutes
	StopTimeout time.Duration // for each step of a clean-up; 1 minute
	Systemctl   string        // "systemctl"
	SystemdDir  string        // exists exactly where systemd runs; "/run/systemd/system"
	Log         *slog.Logger
}

// Host is Chrome Remote Desktop on this machine.
type Host struct {
	cfg     Config
	root    bool                    // the agent may speak to systemd and switch users
	account func() (account, error) // asked each time: cloud-init may create the user later
}

// New fills in the defaults. It touches nothing: Ready tells what is missing.
func New(cfg Config) *Host {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = time.Minute
	}
	if cfg.Systemctl == "" {
		cfg.Systemctl = "systemctl"
	}
	if cfg.SystemdDir == "" {
		cfg.SystemdDir = "/run/systemd/system"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Host{
		cfg: cfg, root: os.Geteuid() == 0,
		account: func() (account, error) { return lookup(cfg.User, cfg.Home) },
	}
}

// Ready returns nil when a set-up could be tried now, else what to repair.
func (h *Host) Ready() error {
	as, err := h.account()
	if err != nil {
		return err
	}
	info, err := os.Stat(h.cfg.StartHost)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no start-host at %s: install Chrome Remote Desktop, or say where it is with --start-host", h.cfg.StartHost)
	case err != nil:
		return fmt.Errorf("start-host cannot be reached: %w", err)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not an executable file", h.cfg.StartHost)
	}
	return h.refusal(as)
}

var errRoot = errors.New("the desktop's user is root: Google's start-host refuses to set up a desktop for root; name the desktop's user with --user")

// refusal is what start-host would say to this user whatever the code. It is
// Google's own program that refuses root. A script in its place is either the
// simulation, which does not (the demo and the tests often are root), or may
// change to another user by itself.
func (h *Host) refusal(as account) error {
	if as.root && !isScript(h.cfg.StartHost) {
		return errRoot
	}
	return nil
}

func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && string(head[:]) == "#!"
}

// CheckUser tells beforehand that start-host will refuse the desktop's user. One
// who is not there may still be created: it is Ready that misses them.
func (h *Host) CheckUser() error {
	as, err := h.account()
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return h.refusal(as)
}

// Request is what a set-up needs.
type Request struct {
	Code, PIN string // secrets
	Name      string // what the participant will see at Google
}

// Setup runs start-host. It returns nil once the desktop is up, a *Error when
// it is not, and the context's error when it was interrupted. Started is told
// the process id, which is also that of its process group.
func (h *Host) Setup(ctx context.Context, req Request, started func(pid int)) error {
	if !validPIN(req.PIN) {
		return &Error{ReasonPIN, errors.New("the PIN that LabLink sent is not 6 or more digits")}
	}
	as, err := h.account()
	if err != nil {
		return &Error{ReasonMissing, err}
	}
	before := h.Snapshot()
	r := call{
		path: h.cfg.StartHost,
		args: []string{
			"--code=" + req.Code,
			"--redirect-url=" + fleet.RedirectURL,
			"--name=" + req.Name,
		},
		stdin:   req.PIN + "\n" + req.PIN + "\n",
		limit:   h.cfg.Timeout,
		as:      as,
		started: started,
	}.run(ctx)
	secrets := redactor(req.Code, req.PIN)
	for _, line := range printable(r.output, secrets) {
		h.cfg.Log.Info("start-host", "output", line)
	}
	switch {
	case r.err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case h.WrittenSince(before) && h.Finish(ctx) == nil:
		h.cfg.Log.Warn("start-host registered the host but could not start it; systemctl did", "exit_code", r.code)
		return nil
	}
	return &Error{reasonFor(r), fmt.Errorf("start-host, exit code %d: %s", r.code, secrets.Replace(r.err.Error()))}
}

// Finish does what is left of a set-up that got as far as the configuration:
// it enables the service. Start-host uses sudo for that, which may ask for a
// password; the agent as root needs none.
func (h *Host) Finish(ctx context.Context) error {
	as, err := h.account()
	if err != nil {
		return err
	}
	if !h.systemd(as) {
		return errors.New("only root can start the service, and only where systemd runs")
	}
	return h.systemctl(ctx, "enable", as)
}

// systemd reports whether the agent may and should speak to systemd for as.
func (h *Host) systemd(as account) bool {
	info, err := os.Stat(h.cfg.SystemdDir)
	return err == nil && info.IsDir() && h.root && as.name != "" && as.name != "root"
}

// systemctl runs "systemctl VERB --now chrome-remote-desktop@USER" as the agent.
func (h *Host) systemctl(ctx context.Context, verb string, as account) error {
	unit := "chrome-remote-desktop@" + as.name
	r := call{
		path: h.cfg.Systemctl, args: []string{verb, "--now", unit},
		limit: h.cfg.StopTimeout, as: account{name: "root", home: "/"},
	}.run(ctx)
	if r.err != nil {
		return fmt.Errorf("systemctl %s %s: %w: %s", verb, unit, r.err, lastLine(r.output))
	}
	return nil
}

func validPIN(pin string) bool {
	return len(pin) >= 6 && len(pin) <= 64 && strings.Trim(pin, "0123456789") == ""
}

func lastLine(output string) string {
	lines := printable(output, redactor("", ""))
	if len(lines) == 0 {
		return "no output"
	}
	return lines[len(lines)-1]
}

// script is the program beside start-host that runs and stops the desktop.
func (h *Host) script() string {
	return filepath.Join(filepath.Dir(h.cfg.StartHost), "chrome-remote-desktop")
}
