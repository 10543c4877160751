package provision

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lablink/internal/fleet"
)

//go:embed module
var modules embed.FS

// LocalOptions are what the local provider needs to start agents.
type LocalOptions struct {
	Lablink   string // path of the lablink program
	StartHost string // path of the simulated start-host
	Folder    string // in which each VM gets one of its own
	Allocator string // URL for the agents
	Software  string
}

// Local is the provider whose VMs are agents on this machine.
func Local(o LocalOptions) Provider {
	return Provider{
		Name:   "local",
		Module: builtin("local"),
		Inputs: map[string]any{
			"allocator_url": o.Allocator, "lablink": o.Lablink, "start_host": o.StartHost,
			"folder": o.Folder, "software": o.Software,
		},
		Sweep: func(ctx context.Context, keep func(string) bool) ([]string, map[string]error, error) {
			return sweepLocal(ctx, o.Folder, keep)
		},
	}
}

func builtin(name string) fs.FS {
	sub, err := fs.Sub(modules, "module/"+name)
	if err != nil {
		panic(err) // the name is one of ours, and embedded
	}
	return sub
}

// sweepLocal stops the agents of VMs that are not to be kept.
func sweepLocal(ctx context.Context, folder string, keep func(string) bool) (found []string, stuck map[string]error, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	stuck = map[string]error{}
	for _, e := range entries {
		hostname := e.Name()
		switch {
		case !e.IsDir() || fleet.ValidateHostname(hostname) != nil: // not the module's: lost+found
		case !keep(hostname):
			if err := stopLocal(ctx, folder, hostname); err != nil {
				stuck[hostname] = err
			}
		case lives(filepath.Join(folder, hostname, "state", hostname+".lock")):
			found = append(found, hostname)
		}
	}
	return found, stuck, ctx.Err()
}

// lives reports whether an agent holds its lock.
func lives(lock string) bool {
	f, err := os.Open(lock)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read from, and gives up the lock
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// stopLocal does what the module does when Terraform destroys the VM.
func stopLocal(ctx context.Context, folder, hostname string) error {
	script, err := modules.ReadFile("module/local/agent.sh")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-s", "stop")
	cmd.Stdin = bytes.NewReader(script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "VM_FOLDER=" + folder, "VM_HOSTNAME=" + hostname}
	cmd.WaitDelay = time.Second // what the shell was waiting for may outlive it, and holds the pipe
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stop the agent of %s: %w: %s", hostname, err, strings.TrimSpace(string(out)))
	}
	return nil
}
