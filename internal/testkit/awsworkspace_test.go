package testkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// workspace is a folder with testdata/aws, on an account of its own.
type workspace struct {
	t       *testing.T
	dir     string
	program string
	environ []string
	subnet  string
	inputs  map[string]any
	moto    *MotoServer
	standin *Standin
}

func newWorkspace(t *testing.T, hostnames ...string) *workspace {
	t.Helper()
	m := Moto(t)
	w := &workspace{t: t, program: Terraform(t), moto: m, standin: AWSProvider(t, m)}
	subnets, err := ec2.NewFromConfig(m.Config(t)).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{
		Filters: []types.Filter{{Name: aws.String("availability-zone"), Values: []string{MotoRegion + "b"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.subnet = aws.ToString(subnets.Subnets[0].SubnetId)
	w.inputs = map[string]any{
		"hostnames": hostnames, "subnet": w.subnet, "vpc": subnets.Subnets[0].VpcId, "destination": m.LogProcessor(t, ""),
	}
	w.environ = slices.Concat([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TF_CLI_CONFIG_FILE=" + w.standin.CLIConfig, "TF_IN_AUTOMATION=1",
	}, m.Environ(), w.standin.Environ())
	w.fresh("")
	return w
}

// fresh begins in an empty folder, with that file besides.
func (w *workspace) fresh(imports string) {
	w.t.Helper()
	w.dir = w.t.TempDir()
	config, err := os.ReadFile(filepath.Join("testdata", "aws", "main.tf"))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, text := range map[string]string{"main.tf": string(config), "imports.tf": imports} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	if out, code := w.run("init"); code != 0 {
		w.t.Fatalf("init: %s", out)
	}
}

// edit changes the configuration.
func (w *workspace) edit(from, to string) {
	w.t.Helper()
	name := filepath.Join(w.dir, "main.tf")
	config, err := os.ReadFile(name)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(config), from, to, 1)), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) command(args ...string) *exec.Cmd {
	w.t.Helper()
	inputs, err := json.Marshal(w.inputs)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "terraform.tfvars.json"), inputs, 0o600); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), w.program, args...)
	cmd.Dir, cmd.Env = w.dir, w.environ
	return cmd
}

func (w *workspace) run(args ...string) (output string, code int) {
	w.t.Helper()
	out, err := w.command(append(args, "-no-color")...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	} else if err != nil {
		w.t.Fatal(err)
	}
	return string(out), 0
}

// apply does what it is to do, and checks that there is nothing more to do then.
func (w *workspace) apply() {
	w.t.Helper()
	if out, code := w.run("apply", "-auto-approve"); code != 0 {
		w.t.Fatalf("apply: %s", out)
	}
	if out, code := w.run("plan", "-detailed-exitcode"); code != 0 {
		w.t.Fatalf("after an apply there is more to do: %s", out)
	}
}

// plan returns what is to be done to each resource that something is to be done to.
func (w *workspace) plan() map[string]string {
	w.t.Helper()
	out, code := w.run("plan", "-json")
	if code != 0 {
		w.t.Fatalf("plan: %s", out)
	}
	steps := map[string]string{}
	for line := range strings.Lines(out) {
		var message struct {
			Type   string `json:"type"`
			Change struct {
				Resource struct {
					Address string `json:"addr"`
				} `json:"resource"`
				Action    string          `json:"action"`
				Importing json.RawMessage `json:"importing"`
			} `json:"change"`
		}
		if err := json.Unmarshal([]byte(line), &message); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		if c := message.Change; message.Type == "planned_change" {
			steps[c.Resource.Address] = c.Action
			if c.Importing != nil && c.Action != "import" {
				steps[c.Resource.Address] = "import and " + c.Action
			}
		}
	}
	return steps
}

// id is that of a resource that Terraform knows, or "".
func (w *workspace) id(address string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate"))
	if err != nil {
		w.t.Fatal(err)
	}
	var state struct {
		Resources []struct {
			Type      string `json:"type"`
			Name      string `json:"name"`
			Instances []struct {
				Key        json.RawMessage `json:"index_key"`
				Attributes map[string]any  `json:"attributes"`
			} `json:"instances"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range state.Resources {
		for _, i := range r.Instances {
			name := r.Type + "." + r.Name
			if i.Key != nil {
				name += "[" + string(i.Key) + "]"
			}
			if name == address {
				return fmt.Sprint(i.Attributes["id"])
			}
		}
	}
	return ""
}

// instances returns those that run.
func (w *workspace) instances() []types.Instance {
	w.t.Helper()
	out, err := ec2.NewFromConfig(w.moto.Config(w.t)).DescribeInstances(w.t.Context(), &ec2.DescribeInstancesInput{
		Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"running"}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var running []types.Instance
	for _, r := range out.Reservations {
		running = append(running, r.Instances...)
	}
	return running
}
