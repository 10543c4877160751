// Package provision makes and destroys VMs with Terraform or OpenTofu. It knows
// modules, plans and progress, and nothing of the database's fleet: package jobs
// tells it which VMs shall exist.
//
// A module describes each VM as one instance of a for_each over the variable
// "vms", keyed by hostname. Whatever Terraform says of an address with such a
// key is said of that VM.
package provision

import (
	"context"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
)

// Provider is where VMs come from: a module, and what it needs.
type Provider struct {
	Name   string
	Module fs.FS
	// Inputs are the values of variables that the module may declare, beside "vms", "tokens" and "operation".
	Inputs map[string]any
	// Env says which variables of our environment Terraform may see, beside those that any provider needs. A name that
	// ends in * stands for all that begin with it.
	Env []string
	// Parallel is how many resources Terraform works on at once. 0: as many as it does by itself.
	Parallel int
	Cloud    Cloud // nil: nothing is known but what Terraform's state knows
}

// Cloud is where the machines of a provider run, asked without Terraform.
type Cloud interface {
	// Prepare returns what Terraform gets now beside what it always gets: variables of its environment, in place of
	// those that it would inherit, and values for variables that the module may declare.
	Prepare(ctx context.Context) (environ map[string]string, inputs map[string]any, err error)
	// Places returns how a VM of a type may be made: the first of them is to be tried first. There is at least one.
	Places(ctx context.Context, instanceType string) ([]VM, error)
	// Full reports whether Terraform's words mean that there was no room for a VM where it was to be made, and whether
	// the same holds for every place of the same type.
	Full(reason string) (here, everywhere bool)
	// Inventory lists what there is of the fleet, whether Terraform's state knows it or not.
	Inventory(ctx context.Context) ([]Thing, error)
	// End ends a thing of the inventory.
	End(ctx context.Context, t Thing) error
}

// Thing is something that exists in a cloud.
type Thing struct {
	Hostname string // of the VM that it belongs to; "" = shared by all
	What     string // for people: "instance i-0123456789"
	// ID is what Terraform imports it by, and Address the resource to which it belongs then. A thing without them is
	// known by its hostname alone, and made anew in its place.
	ID, Address string
	Foreign     bool // another installation of LabLink has made it, or something else
	Useless     bool // it cannot become part of a VM any more: if the state does not know it, it is to end
}

// Backend is where Terraform keeps its state: in the PostgreSQL database at
// URL, or in an S3 bucket.
type Backend struct {
	PostgresURL string
	S3          *S3
}

// S3 is a state in a bucket, with the names that the Python system uses.
type S3 struct {
	Bucket, Region, Key string
	Endpoint            string // of an emulator; "" = AWS itself
}

// block is the backend as Terraform's JSON has it. The URL of a database is a
// secret, and goes by the environment. In a database each provider has a state
// of its own: after a change of provider, a plan must not find the other's
// machines there.
func (b Backend) block(provider string) map[string]any {
	if b.S3 != nil {
		block := map[string]any{
			"bucket": b.S3.Bucket, "region": b.S3.Region, "key": b.S3.Key, "dynamodb_table": "lock-table", "encrypt": true,
		}
		if at := b.S3.Endpoint; at != "" { // an emulator has no host name for each bucket
			block["endpoints"] = map[string]any{"s3": at, "dynamodb": at, "iam": at, "sts": at}
			block["use_path_style"] = true
		}
		return map[string]any{"s3": block}
	}
	return map[string]any{"pg": map[string]any{"schema_name": "terraform_" + provider}}
}

// commonEnv is what Terraform may see of our environment in any case. All else,
// the database's URL and the admin's password among it, stays here.
var commonEnv = []string{
	"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR",
}

// environment is what Terraform gets for its environment in a working folder.
func environment(environ []string, dir string, p Provider, b Backend) map[string]string {
	allowed := slices.Concat(commonEnv, p.Env)
	if b.S3 != nil {
		allowed = append(allowed, "AWS_*") // whatever the provider: it is the backend's
	}
	env := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if slices.ContainsFunc(allowed, func(a string) bool { return matches(a, name) }) {
			env[name] = value
		}
	}
	// OpenTofu warns of a missing file in the midst of what is to be JSON.
	if name, given := env["TF_CLI_CONFIG_FILE"]; given {
		if _, err := os.Stat(name); err != nil {
			env["TF_CLI_CONFIG_FILE"] = os.DevNull
		}
	}
	env[workspaceVar], env["CHECKPOINT_DISABLE"] = dir, "1"
	if b.S3 == nil {
		env["PG_CONN_STR"] = b.PostgresURL
	}
	return env
}

func matches(allowed, name string) bool {
	prefix, open := strings.CutSuffix(allowed, "*")
	return name == allowed || open && strings.HasPrefix(name, prefix)
}

// secretsIn returns what of an environment must not show in the output.
func secretsIn(env map[string]string) (secrets []string) {
	telling := []string{"SECRET", "TOKEN", "PASSWORD"}
	for name, value := range env {
		if name == "PG_CONN_STR" || slices.ContainsFunc(telling, func(word string) bool { return strings.Contains(name, word) }) {
			secrets = append(secrets, value)
		}
		if u, err := url.Parse(value); err == nil && u.User != nil { // a database, a proxy
			password, _ := u.User.Password()
			secrets = append(secrets, password)
		}
	}
	return secrets
}

// ModuleFolder returns a user's own module.
func ModuleFolder(dir string) fs.FS { return os.DirFS(dir) }
