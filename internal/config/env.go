package config

import (
	"fmt"
	"strings"
)

// envPrefix begins the names of all our variables.
const envPrefix = "LABLINK_"

// variable is an environment variable that the AWS template gives to the allocator's container.
type variable struct {
	name, def string
	parse     func(string) (string, error)
	doc       string
	field     func(*Config) *string
}

// variables are read besides the keys.
var variables = []variable{
	{"ENVIRONMENT", "prod", parseEnvironment,
		"Name of the deployment; lower-cased, spaces become dashes.",
		func(c *Config) *string { return &c.Environment }},
	{"ALLOCATOR_PUBLIC_IP", "", parseIP,
		"The allocator's address, for the public URL.",
		func(c *Config) *string { return &c.AllocatorPublicIP }},
	{"ALLOCATOR_FQDN", "", checkFQDN,
		"The allocator's URL or name, for the public URL.",
		func(c *Config) *string { return &c.AllocatorFQDN }},
	{"ALLOCATOR_KEY_NAME", "", nil,
		"Name of the SSH key pair for VMs on AWS.",
		func(c *Config) *string { return &c.AllocatorKeyName }},
	{"CLOUD_INIT_LOG_GROUP", "", nil,
		"CloudWatch log group of the VMs.",
		func(c *Config) *string { return &c.CloudInitLogGroup }},
}

// fileVariables say which file to read.
var fileVariables = []struct{ name, def, doc string }{
	{"LABLINK_CONFIG", "", "The configuration file; it must exist. Also --config."},
	{"CONFIG_DIR", "/config", "Folder of the configuration file, if neither is given."},
	{"CONFIG_NAME", "config.yaml", "Its name there, with or without .yaml or .yml. It need not exist."},
}

// otherVariables have our prefix but belong to other commands. They are let alone, although some look like a
// misspelt name of ours. This is the one list of them; the reference shows it.
var otherVariables = []struct{ name, doc string }{
	{"LABLINK_ALLOCATOR", "`lablink agent --allocator`"},
	{"LABLINK_HOSTNAME", "`lablink agent --hostname`"},
	{"LABLINK_TOKEN", "the agent's token"},
	{"LABLINK_TOKEN_FILE", "`lablink agent --token-file`"},
	{"LABLINK_START_HOST", "`lablink agent --start-host`"},
	{"LABLINK_STATE_DIR", "`lablink agent --state-dir`"},
	{"LABLINK_SHIP_LOGS", "`lablink agent --ship-logs`"},
	{"LABLINK_LOG_FILE", "`lablink agent --log-file`"},
	{"LABLINK_BOOT_LOG", "`lablink agent --boot-log`"},
	{"LABLINK_VMS", "`lablink demo --vms`"},
	{"LABLINK_ONCE", "`lablink demo --once`"},
	{"LABLINK_TERRAFORM_DIR", "the diagram generator"},
	{"LABLINK_CLIENT_VM_TERRAFORM_DIR", "the diagram generator"},
}

// environment is the environment by name. Variables that are set but empty count as not set, because Compose files
// and systemd units often pass them so.
type environment map[string]string

func newEnvironment(environ []string) environment {
	env := environment{}
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(value) != "" {
			env[name] = value
		}
	}
	return env
}

// get returns a variable, or def if it is not set.
func (e environment) get(name, def string) string {
	if v, ok := e[name]; ok {
		return strings.TrimSpace(v)
	}
	return def
}

// misspelt returns a problem for each variable that is nearly, but not quite, one of ours.
func (e environment) misspelt() []Problem {
	names := knownVariables()
	known := map[string]bool{}
	for _, n := range names {
		known[n] = true
	}
	for _, o := range otherVariables {
		known[o.name] = true
	}
	var problems []Problem
	for name := range e {
		if !strings.HasPrefix(name, envPrefix) || known[name] {
			continue
		}
		if right := nearest(name, names, 2); right != "" {
			problems = append(problems, Problem{File: inEnvironment, Key: name, Message: fmt.Sprintf("unknown variable; did you mean %s?", right)})
		}
	}
	return problems
}

// knownVariables are all names with our prefix that Load reads.
func knownVariables() []string {
	names := []string{envPrefix + "CONFIG"}
	for _, k := range keys {
		names = append(names, k.env())
		if k.alias != "" {
			names = append(names, k.alias)
		}
	}
	return names
}
