package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lablink/internal/provision"
	"lablink/internal/testkit"
)

// machine is a VM of the local provider, as agent.sh makes it.
type machine struct {
	t        *testing.T
	folder   string // of all machines
	hostname string
	token    string
	lablink  string
	mark     string // an entry of the environment that must not get to the agent
}

func newMachine(t *testing.T, hostname string) *machine {
	t.Helper()
	m := &machine{t: t, folder: t.TempDir(), hostname: hostname, token: token, lablink: testkit.Program(t), mark: provision.Marker + "=" + t.TempDir()}
	t.Cleanup(func() { sweep(t, m.folder) })
	return m
}

// sweep ends all agents in a folder but those to keep, and returns all that it
// has found.
func sweep(t *testing.T, folder string, keep ...string) (found []string) {
	t.Helper()
	cloud := provision.Local(provision.LocalOptions{Folder: folder}).Cloud
	things, err := cloud.Inventory(t.Context())
	if err != nil {
		t.Error(err)
	}
	for _, thing := range things {
		found = append(found, thing.Hostname)
		if slices.Contains(keep, thing.Hostname) {
			continue
		}
		// Not in the test's context, which has ended in a clean-up.
		if err := cloud.End(context.Background(), thing); err != nil {
			t.Error(err)
		}
	}
	return found
}

func (m *machine) home() string { return filepath.Join(m.folder, m.hostname) }

// script is agent.sh as Terraform's local-exec runs it.
func (m *machine) script(action string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), "sh", "module/local/agent.sh", action)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/root", "PG_CONN_STR=postgres://secret", "AWS_SECRET_ACCESS_KEY=secret", m.mark,
		"VM_HOSTNAME=" + m.hostname, "VM_FOLDER=" + m.folder, "VM_TOKEN=" + m.token, "VM_ALLOCATOR=http://127.0.0.1:1", "VM_LABLINK=" + m.lablink,
		"VM_START_HOST=/bin/false", "VM_SOFTWARE=",
	}
	return cmd
}

func (m *machine) run(action string) string {
	m.t.Helper()
	out, err := m.script(action).CombinedOutput()
	if err != nil {
		m.t.Fatalf("agent.sh %s: %v\n%s", action, err, out)
	}
	return string(out)
}

// agents are the processes of the machine: those that work in its folder.
func (m *machine) agents() (pids []int) {
	m.t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && strings.TrimSuffix(dir, " (deleted)") == m.home() {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				m.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// agent is the machine's one agent.
func (m *machine) agent() int {
	m.t.Helper()
	pids := m.agents()
	lock, err := os.ReadFile(filepath.Join(m.home(), "state", m.hostname+".lock"))
	if len(pids) != 1 || err != nil || strings.TrimSpace(string(lock)) != strconv.Itoa(pids[0]) {
		m.t.Fatalf("the agents are %v, and the lock is of process %q, %v", pids, lock, err)
	}
	return pids[0]
}

func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAgent_Start(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	if out := m.run("start"); !strings.HasPrefix(out, "the agent of lablink-client-1 runs as process ") {
		t.Errorf("it says %q", out)
	}
	pid := m.agent()
	env := strings.Split(strings.TrimSuffix(proc(t, pid, "environ"), "\x00"), "\x00")
	slices.Sort(env)
	if want := []string{"HOME=" + m.home(), "PATH=" + os.Getenv("PATH")}; !slices.Equal(env, want) {
		t.Errorf("its environment is %q, want %q", env, want)
	}
	if args := proc(t, pid, "cmdline"); strings.Contains(args, token) || !strings.Contains(args, "\x00--hostname\x00lablink-client-1\x00") {
		t.Errorf("its arguments are %q", args)
	}
	stat := strings.Fields(proc(t, pid, "stat")[strings.LastIndex(proc(t, pid, "stat"), ")")+1:])
	if group, session := stat[2], stat[3]; group != strconv.Itoa(pid) || session != strconv.Itoa(pid) {
		t.Errorf("process %d is in the group %s of the session %s", pid, group, session)
	}
	for fd, want := range map[string]string{"0": os.DevNull, "1": m.home() + "/agent.log", "2": m.home() + "/agent.log"} {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)); err != nil || got != want {
			t.Errorf("descriptor %s is %s, %v", fd, got, err)
		}
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// That it does not hold on to Terraform's pipe shows in that run has returned.
		if to, err := os.Readlink(fd); err == nil && to == m.home() {
			t.Errorf("it holds on to %s", to)
		}
	}
	for path, want := range map[string]string{"": "drwx------", "token": "-rw-------", "agent.log": "-rw-------", "state": "drwx------"} {
		if info, err := os.Stat(filepath.Join(m.home(), path)); err != nil || info.Mode().String() != want {
			t.Errorf("%q: %v, %v", path, info.Mode(), err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(m.home(), "token")); err != nil || string(got) != token+"\n" {
		t.Errorf("the token is %q, %v", got, err)
	}

	// What ends Terraform does not end it.
	if err := provision.Reap(strings.TrimPrefix(m.mark, provision.Marker+"=")); err != nil {
		t.Fatal(err)
	}
	if again := m.agent(); again != pid {
		t.Errorf("process %d has become %d", pid, again)
	}

	// Again: the newer one replaces it.
	m.token = "another-token"
	m.run("start")
	if again := m.agent(); again == pid {
		t.Error("the older agent still runs")
	}
	if got, err := os.ReadFile(filepath.Join(m.home(), "token")); err != nil || string(got) != "another-token\n" {
		t.Errorf("the token is %q, %v", got, err)
	}

	for range 2 {
		if out := m.run("stop"); out != "the agent of lablink-client-1 has ended\n" {
			t.Errorf("stop says %q", out)
		}
		if left, err := os.ReadDir(m.folder); err != nil || len(left) > 0 || len(m.agents()) > 0 {
			t.Errorf("left are %v and processes %v, %v", left, m.agents(), err)
		}
	}
}

func TestAgent_StopOfNone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	m.folder = filepath.Join(m.folder, "not there", "either")
	m.run("stop")
	if exists(filepath.Dir(m.folder)) {
		t.Error("stop has made a folder")
	}
	if out, err := m.script("restart").CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "usage:") {
		t.Errorf("%v, %s", err, out)
	}
}

// Hostnames that begin alike are not confused, nor is the process of somebody
// else who has the number of an agent.
func TestAgent_OfOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	ten := *m
	ten.hostname = "lablink-client-10"
	ten.run("start")
	m.run("start")
	pid := ten.agent()
	write(t, filepath.Join(m.home(), "pid"), strconv.Itoa(pid)+"\n")
	own := m.agent()
	// Its number is lost, so that it counts as gone; the state's lock still knows it.
	if out, err := m.script("start").CombinedOutput(); err == nil || !strings.Contains(string(out), "another agent (process") {
		t.Errorf("%v, %s", err, out)
	}
	if ten.agent() != pid || !slices.Contains(m.agents(), own) {
		t.Error("an agent was stopped that is not meant")
	}
	write(t, filepath.Join(m.home(), "pid"), strconv.Itoa(own)+"\n")
	m.run("stop")
	if ten.agent() != pid || len(m.agents()) > 0 {
		t.Errorf("left are %v and %v", m.agents(), ten.agents())
	}
}

// stub writes a program that stands for lablink.
func (m *machine) stub(script string) {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "lablink")
	// By another process: a file that this one has open could not be run while a third is being forked.
	cmd := exec.CommandContext(m.t.Context(), "sh", "-c", `cat >"$0" && chmod 700 "$0"`, path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + script)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	m.lablink = path
}

func TestAgent_EndsAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	m.stub("for i in 1 2 3 4 5; do echo line $i; done; echo the last word >&2; exit 1\n")
	out, err := m.script("start").CombinedOutput()
	if err == nil || string(out) != "the agent of lablink-client-1 ended at once:\nline 4\nline 5\nthe last word\n" {
		t.Errorf("%v, %s", err, out)
	}
	m.lablink = "/nowhere/lablink"
	if out, err = m.script("start").CombinedOutput(); err == nil || !strings.Contains(string(out), "/nowhere/lablink") || strings.Contains(string(out), "last word") {
		t.Errorf("%v, %s", err, out)
	}
	m.token = ""
	if out, err = m.script("start").CombinedOutput(); err == nil || !strings.Contains(string(out), "VM_TOKEN") {
		t.Errorf("%v, %s", err, out)
	}
	m.run("stop")
}

// An agent that does not end when it is asked is killed, with what it has
// started.
func TestAgent_IgnoresTheEnd(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	m.stub(`trap '' TERM; echo $$ >state/lablink-client-1.lock; sleep 1000; sleep 1000`)
	m.run("start")
	if n := len(m.agents()); n != 2 {
		t.Fatalf("%d processes", n)
	}
	m.run("stop")
	if left := m.agents(); len(left) > 0 || exists(m.home()) {
		t.Errorf("processes %v are left", left)
	}
}

// Whenever a start is killed, the next one leaves one agent, its own. Either the
// shell alone is killed, or all that has Terraform's mark.
func TestAgent_StartIsKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	m.run("start")
	began := time.Now()
	m.run("start")
	whole := time.Since(began)
	for try := range 16 {
		cmd := m.script("start")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := rand.N(whole)
		<-time.After(after)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if try%2 == 0 {
			if err := provision.Reap(strings.TrimPrefix(m.mark, provision.Marker+"=")); err != nil {
				t.Fatal(err)
			}
		}
		m.token = fmt.Sprintf("token-%d", try)
		out, err := m.script("start").CombinedOutput()
		if err != nil {
			t.Fatalf("start after one that was killed after %v: %v\n%s", after, err, out)
		}
		if pid := m.agent(); !strings.Contains(string(out), fmt.Sprintf("process %d\n", pid)) {
			t.Fatalf("the agent is process %d; it says %s", pid, out)
		}
		if got, err := os.ReadFile(filepath.Join(m.home(), "token")); err != nil || string(got) != m.token+"\n" {
			t.Fatalf("the token is %q, %v", got, err)
		}
	}
	// So is a stop.
	for range 4 {
		cmd := m.script("stop")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(rand.N(whole))
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		m.run("stop")
		if left := m.agents(); len(left) > 0 || exists(m.home()) {
			t.Fatalf("processes %v are left", left)
		}
		m.run("start")
		m.agent()
	}
}

// The moments that a kill would hardly hit: one of the programs on the way to the
// agent hangs there, and the script is gone. Before the number of that process is
// known, the next start waits; later it ends the process.
func TestAgent_StartIsKilledOnTheWay(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"sh", "env", "setsid"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, "lablink-client-1")
			path, err := exec.LookPath(step)
			if err != nil {
				t.Fatal(err)
			}
			m.stub(`: >reached; while [ ! -e go ]; do sleep 0.01; done; exec ` + path + ` "$@"`)
			slow := filepath.Dir(m.lablink)
			if err := os.Rename(m.lablink, filepath.Join(slow, step)); err != nil {
				t.Fatal(err)
			}
			m.lablink = testkit.Program(t)
			first := m.script("start")
			first.Env[0] = "PATH=" + slow + ":" + os.Getenv("PATH")
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the process on the way", func() bool { return exists(filepath.Join(m.home(), "reached")) })
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = first.Wait() // it was killed

			second := m.script("start")
			if err := second.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- second.Wait() }()
			testkit.Eventually(t, "the second start", func() bool { return len(done) > 0 || m.waits() })
			write(t, filepath.Join(m.home(), "go"), "")
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			pid := m.agent()
			m.run("start") // knows that one
			if again := m.agent(); again == pid {
				t.Error("the older agent still runs")
			}
		})
	}
}

// A stop that was killed leaves a program that still removes the folder; whoever
// comes next waits for it.
func TestAgent_StopIsKilledOnTheWay(t *testing.T) {
	t.Parallel()
	rm, err := exec.LookPath("rm")
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{"stop", "start"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, "lablink-client-1")
			m.run("start")
			signs := t.TempDir()
			reached, proceed := filepath.Join(signs, "reached"), filepath.Join(signs, "go")
			m.stub(`if [ "$1" = -rf ]; then : >` + reached + `; while [ ! -e ` + proceed + ` ]; do sleep 0.01; done; fi; exec ` + rm + ` "$@"`)
			slow := filepath.Dir(m.lablink)
			if err := os.Rename(m.lablink, filepath.Join(slow, "rm")); err != nil {
				t.Fatal(err)
			}
			m.lablink = testkit.Program(t)
			first := m.script("stop")
			first.Env[0] = "PATH=" + slow + ":" + os.Getenv("PATH")
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the folder's end", func() bool { return exists(reached) })
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = first.Wait() // it was killed

			second := m.script(next)
			var out bytes.Buffer
			second.Stdout, second.Stderr = &out, &out
			if err := second.Start(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the second one", func() bool { return m.waits() })
			write(t, proceed, "")
			if err := second.Wait(); err != nil {
				t.Fatalf("%v, %s", err, out.String())
			}
			if next == "start" {
				m.agent()
			} else if exists(m.home()) {
				t.Error("the folder is still there")
			}
		})
	}
}

// waits reports whether a script waits for the machine's lock.
func (m *machine) waits() bool {
	return slices.ContainsFunc(m.agents(), func(pid int) bool {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err == nil && string(args) == "flock\x009\x00"
	})
}

// Two starts at the same time leave one agent.
func TestAgent_StartedTwice(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "lablink-client-1")
	for range 3 {
		first, second := m.script("start"), m.script("start")
		var out bytes.Buffer
		first.Stdout, first.Stderr = &out, &out
		if err := errors.Join(first.Start(), second.Start()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(first.Wait(), second.Wait()); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		m.agent()
	}
}
