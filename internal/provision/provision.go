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
	// Inputs are the values of variables that the module may declare, beside "vms" and "tokens".
	Inputs map[string]any
	// Env says which variables of our environment Terraform may see, beside those that any provider needs. A name that
	// ends in * stands for all that begin with it.
	Env []string
	// Sweep ends machines that were made but never came into Terraform's state, except for those to keep. It
	// returns the hostnames of machines that it found and kept, and why others could not be ended. Nil: there is no
	// way to find them.
	Sweep func(ctx context.Context, keep func(hostname string) bool) (found []string, stuck map[string]error, err error)
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
}

// block is the backend as Terraform's JSON has it. The URL of a database is a
// secret, and goes by the environment. In a database each provider has a state
// of its own: after a change of provider, a plan must not find the other's
// machines there.
func (b Backend) block(provider string) map[string]any {
	if b.S3 != nil {
		return map[string]any{"s3": map[string]any{
			"bucket": b.S3.Bucket, "region": b.S3.Region, "key": b.S3.Key, "dynamodb_table": "lock-table", "encrypt": true,
		}}
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
