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
		Module: Builtin("local"),
		Inputs: map[string]any{
			"allocator_url": o.Allocator, "lablink": o.Lablink, "start_host": o.StartHost,
			"folder": o.Folder, "software": o.Software,
		},
		Cloud: localCloud{o.Folder},
	}
}

// Builtin returns the module of a provider that comes with LabLink.
func Builtin(name string) fs.FS {
	sub, err := fs.Sub(modules, "module/"+name)
	if err != nil {
		panic(err) // the name is one of ours, and embedded
	}
	return sub
}

// localCloud is this machine. Each VM has a folder in the one that it is.
type localCloud struct{ folder string }

// Prepare implements Cloud.
func (localCloud) Prepare(context.Context) (environ map[string]string, inputs map[string]any, err error) {
	return nil, nil, nil
}

// Places implements Cloud.
func (localCloud) Places(_ context.Context, instanceType string) ([]VM, error) {
	return []VM{{InstanceType: instanceType}}, nil
}

// Full implements Cloud.
func (localCloud) Full(string) (here, everywhere bool) { return false, false }

// Inventory implements Cloud.
func (c localCloud) Inventory(context.Context) ([]Thing, error) {
	entries, err := os.ReadDir(c.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var things []Thing
	for _, e := range entries {
		if hostname := e.Name(); e.IsDir() && fleet.ValidateHostname(hostname) == nil { // else not the module's: lost+found
			things = append(things, Thing{Hostname: hostname, What: "agent in " + filepath.Join(c.folder, hostname)})
		}
	}
	return things, nil
}

// End implements Cloud: it does what the module does when Terraform destroys the VM.
func (c localCloud) End(ctx context.Context, t Thing) error {
	script, err := modules.ReadFile("module/local/agent.sh")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-s", "stop")
	cmd.Stdin = bytes.NewReader(script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "VM_FOLDER=" + c.folder, "VM_HOSTNAME=" + t.Hostname}
	cmd.WaitDelay = time.Second // what the shell was waiting for may outlive it, and holds the pipe
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("stop the agent of %s: %w: %s", t.Hostname, err, strings.TrimSpace(string(out)))
	}
	return nil
}
