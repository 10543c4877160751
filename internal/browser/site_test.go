package browser_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/agent"
	"lablink/internal/agent/simhost"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// site is an allocator with machines, and the programs for them.
type site struct {
	*testkit.Allocator
	t         *testing.T
	chromium  *chromium
	startHost string
	codes     int
}

func newSite(t *testing.T, c *chromium, configure func(*config.Config)) *site {
	t.Helper()
	s := &site{Allocator: testkit.Serve(t, testkit.ServeOptions{Configure: configure}), t: t, chromium: c}
	s.startHost = installPrograms(t)
	return s
}

// installPrograms puts the simulated Chrome Remote Desktop somewhere and returns
// the path of its start-host, which waits while the machine's gate is closed.
func installPrograms(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := simhost.Install(dir, self); err != nil {
		t.Fatal(err)
	}
	gated := t.TempDir()
	for name, wait := range map[string]string{"start-host": "[ ! -p \"$HOME/gate\" ] || read -r _ < \"$HOME/gate\"\n", "chrome-remote-desktop": ""} {
		// The race detector would make each of them end a second later.
		script := "#!/bin/sh\n" + wait + "export GORACE=atexit_sleep_ms=0\nexec '" + filepath.Join(dir, name) + "' \"$@\"\n"
		if err := os.WriteFile(filepath.Join(gated, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(gated, "start-host")
}

// person opens a browser of somebody who types the allocator's address.
func (s *site) person() *person { return s.chromium.person(s.t, s.URL) }

// organiser opens a browser that is logged in as the admin.
func (s *site) organiser() *person {
	s.t.Helper()
	p := s.person()
	u, err := url.Parse(s.URL + "/admin")
	if err != nil {
		s.t.Fatal(err)
	}
	u.User = url.UserPassword("admin", testkit.AdminPassword)
	base := p.base
	p.base = ""
	pg := p.open(u.String())
	pg.heading("Overview")
	pg.close()
	p.base = base
	return p
}

// code makes up a code of Google's. What is in the word makes the simulation
// refuse it.
func (s *site) code(word string) string {
	s.codes++
	return fmt.Sprintf("4/0%s-%d-%s", word, s.codes, fleet.NewToken()[:24])
}

// command is what Google's page shows for a fresh code.
func (s *site) command(word string) string { return fleet.CommandFor(s.code(word)) }

// machine is a VM with its agent.
type machine struct {
	site     *site
	hostname string
	token    string
	home     string
	gate     *os.File
}

// machine registers a VM that is free. Its agent is not there yet.
func (s *site) machine(hostname string) *machine {
	s.t.Helper()
	return s.machineWith(hostname, s.Register(hostname)[hostname])
}

func (s *site) machineWith(hostname, token string) *machine {
	return &machine{site: s, hostname: hostname, token: token, home: s.t.TempDir()}
}

// running registers VMs and waits until their agents do.
func (s *site) running(hostnames ...string) {
	s.t.Helper()
	for _, hostname := range hostnames {
		s.machine(hostname).start()
	}
	for _, hostname := range hostnames {
		s.eventually(hostname, "to wait", func(v fleet.VM) bool { return v.Waiting && v.Free() })
	}
}

// eventually waits for the VM to be as the test wants it.
func (s *site) eventually(hostname, what string, is func(fleet.VM) bool) {
	s.t.Helper()
	testkit.Eventually(s.t, hostname+" "+what, func() bool { return is(s.vm(hostname)) })
}

func (s *site) vm(hostname string) fleet.VM {
	s.t.Helper()
	vm, err := s.Store.VM(s.t.Context(), hostname)
	if err != nil {
		s.t.Fatal(err)
	}
	return vm
}

// age makes a VM's seat change longer ago. Nobody is notified of that.
func (s *site) age(hostname string, d time.Duration) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DatabaseURL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	if _, err := conn.Exec(s.t.Context(), `UPDATE vms SET seat_changed = now() - make_interval(secs => $2) WHERE hostname = $1`, hostname, d.Seconds()); err != nil {
		s.t.Fatal(err)
	}
}

// pin is the PIN that the database has.
func (s *site) pin(hostname string) string {
	s.t.Helper()
	pin, err := s.Store.PIN(s.t.Context(), fleet.Actor{Kind: "system"}, hostname)
	if err != nil {
		s.t.Fatal(err)
	}
	return pin
}

// seated counts the VMs that an e-mail address holds.
func (s *site) seated(email string) int {
	s.t.Helper()
	vms, _, err := s.Store.VMs(s.t.Context(), store.VMFilter{})
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, v := range vms {
		if strings.EqualFold(v.Email, email) {
			n++
		}
	}
	return n
}

// start runs the VM's agent until the test ends.
func (m *machine) start() {
	m.site.t.Helper()
	a, err := agent.New(agent.Config{
		Allocator: m.site.URL, Hostname: m.hostname, Token: m.token, StateDir: filepath.Join(m.home, "state"), Home: m.home,
		StartHost: m.site.startHost, NvidiaSMI: filepath.Join(m.home, "no-nvidia-smi"), SystemdDir: filepath.Join(m.home, "no-systemd"),
		Timing: agent.Timing{RetryMin: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, AtOnce: 20 * time.Millisecond},
	})
	if err != nil {
		m.site.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	m.site.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			m.site.t.Errorf("the agent of %s: %v", m.hostname, err)
		}
	})
}

// closeGate makes each set-up wait for letThrough. Call it before start.
func (m *machine) closeGate() {
	m.site.t.Helper()
	path := filepath.Join(m.home, "gate")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		m.site.t.Fatal(err)
	}
	// Open for reading, too, the pipe keeps what is written until somebody reads.
	gate, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		m.site.t.Fatal(err)
	}
	m.site.t.Cleanup(func() { gate.Close() })
	m.gate = gate
}

// letThrough lets one set-up end, the one that waits or the next.
func (m *machine) letThrough() {
	m.site.t.Helper()
	if _, err := m.gate.WriteString("go\n"); err != nil {
		m.site.t.Fatal(err)
	}
}

// opens fails unless the participant can open the VM's desktop with the PIN.
func (m *machine) opens(pin string) {
	m.site.t.Helper()
	if err := simhost.Access(m.home, m.hostname, pin); err != nil {
		m.site.t.Errorf("Google's access page: %v", err)
	}
}
