package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

const (
	// cleanUpTimeout is how long Terraform may take to destroy everything. After
	// that, the allocator interrupts it.
	cleanUpTimeout = 2 * time.Minute
	// agentTimeout is how long an agent may take to end before it is killed.
	agentTimeout = 5 * time.Second
)

// home is the folder that a machine lives in: the HOME of its agent.
func (d *demo) home(hostname string) string { return filepath.Join(d.dataDir(), "machines", hostname) }

// agentOf returns the process of a machine's agent, 0 if none lives: it holds a
// lock on a file in which its number stands.
func agentOf(home, hostname string) int {
	f, err := os.Open(filepath.Join(home, "state", hostname+".lock"))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // only read from, and gives up the lock
	if !errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return 0
	}
	data := make([]byte, 20)
	n, _ := f.Read(data) // what was read decides
	pid, err := strconv.Atoi(strings.TrimSpace(string(data[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// cleanUp destroys all machines, as an organiser would, and stops the allocator.
// Agents that are left after that are ended.
func (d *demo) cleanUp(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, cleanUpTimeout, fmt.Errorf("not done after %v", cleanUpTimeout))
	defer cancel()
	err := d.destroyAll(limited)
	if err != nil {
		d.explain(err)
		err = fmt.Errorf("the machines could not be destroyed: %w", err)
	}
	// Terraform has ended after this, so that it makes no more of them.
	err = errors.Join(err, d.stopAllocator())
	ended, endErr := d.endAgents()
	if len(ended) > 0 {
		d.say("Ended the processes of %s without Terraform.", strings.Join(ended, ", "))
	}
	return errors.Join(err, endErr)
}

// destroyAll destroys all machines, and waits for what is under way: another
// launch may begin while it looks.
func (d *demo) destroyAll(ctx context.Context) error {
	said := false
	for {
		vms, _, err := d.store.VMs(ctx, store.VMFilter{})
		if err != nil {
			return err
		}
		live := 0
		for _, v := range vms {
			if v.Provider != fleet.ProviderRegistered {
				live++
			}
		}
		if live > 0 && !said {
			said = true
			d.say("\nCleaning up: Terraform destroys %s ...", counted(live))
		}
		var op int64
		if live > 0 {
			op, err = d.ask(ctx, "/destroy", map[string]any{"all": true, "confirm": live})
		}
		if answer, ok := errors.AsType[*refused](err); ok && (answer.status == http.StatusBadRequest || answer.status == http.StatusConflict) {
			err = nil // the number is not right any more: count again
		}
		if err == nil {
			err = d.idle(ctx)
		}
		if err == nil && op != 0 {
			err = d.ended(ctx, op)
		}
		if err != nil || live == 0 {
			return err
		}
	}
}

// idle waits until no operation is under way.
func (d *demo) idle(ctx context.Context) error {
	return d.watch(ctx, cleanUpTimeout, "the operations to end", func() (bool, error) {
		ops, err := d.store.Operations(ctx, watchedOperations)
		for _, op := range ops {
			if !op.State.Final() {
				return false, err
			}
		}
		return true, err
	})
}

// endAgents ends the agents that live, and returns the hostnames of their VMs.
func (d *demo) endAgents() (hostnames []string, err error) {
	homes, err := filepath.Glob(d.home("*"))
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, home := range homes {
		hostname, began := filepath.Base(home), time.Now()
		if agentOf(home, hostname) != 0 {
			hostnames = append(hostnames, hostname)
		}
		for pid := agentOf(home, hostname); pid != 0; pid = agentOf(home, hostname) {
			signal := syscall.SIGTERM
			if time.Since(began) > agentTimeout {
				signal = syscall.SIGKILL
			}
			err := syscall.Kill(pid, signal)
			if time.Since(began) > 2*agentTimeout || err != nil && !errors.Is(err, syscall.ESRCH) {
				return hostnames, errors.Join(fmt.Errorf("the agent of %s, process %d, does not end", hostname, pid), err)
			}
			<-tick.C
		}
	}
	return hostnames, nil
}
