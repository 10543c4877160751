package config

import "strings"

// key is one line of the table: everything that there is to know about one key.
type key struct {
	path    string
	kind    kind
	def     string   // the default, as it would be written; "" = empty
	allowed []string // the only values, if any
	min     int64    // of numbers and durations, inclusive; no bounds if min and max are 0
	max     int64
	needed  bool                         // must not be written empty
	parse   func(string) (string, error) // checks and normalises text that is not empty; its error never holds the text
	flag    string                       // the flag that sets it too
	alias   string                       // another variable that sets it too, and wins
	doc     string
	field   func(*Config) any // where the value goes: a pointer
}

// env returns the name of the environment variable that sets the key.
func (k *key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
}

// section is one line of the table of sections.
type section struct {
	path, doc string
}

// sections are all sections, in the order of the reference. "" is the top level.
var sections = []section{
	{"", "Top level"},
	{"server", "How the server is reached"},
	{"auth", "Who is believed"},
	{"provision", "How Terraform makes VMs"},
	{"limits", "What one client, or one workshop, may use"},
	{"poll", "How waiting VMs are held"},
	{"crd", "Chrome Remote Desktop"},
	{"logs", "Log collection"},
	{"app", "The administrator's log-in, and the region"},
	{"db", "An external database, in the Python system's form"},
	{"machine", "The participants' VMs"},
	{"dns", "The allocator's name"},
	{"ssl", "What stands in front of the allocator"},
	{"eip", "The allocator's address (AWS template only)"},
	{"allocator", "The allocator's container (AWS template only)"},
	{"aws", "VMs on AWS, with `provider: aws`"},
	{"startup_script", "A script that each VM runs at its first start"},
	{"monitoring", "Alarms (AWS template only)"},
	{"monitoring.thresholds", "Limits of the alarms"},
	{"monitoring.budget", "An alarm about money"},
	{"monitoring.cloudtrail", "The audit trail"},
}

// ourKeys are the keys that LabLink added to the Python system's.
var ourKeys = []*key{
	{path: "listen", needed: true, def: ":5000", parse: parseListen, flag: "listen",
		doc:   "Address on which the server listens, HOST:PORT. Without a host: all addresses.",
		field: func(c *Config) any { return &c.Listen }},
	{path: "data_dir", needed: true, def: "/var/lib/lablink", flag: "data-dir",
		doc:   "Folder for everything that the server keeps on disk.",
		field: func(c *Config) any { return &c.DataDir }},
	{path: "database_url", kind: kindSecret, parse: parsePostgresURL, flag: "database-url",
		doc: "External PostgreSQL, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. " +
			"Empty: see `db`; if `db.host` is local too, the server starts a private PostgreSQL under `data_dir`.",
		field: func(c *Config) any { return &c.DatabaseURL }},
	{path: "provider", def: "none", allowed: []string{"none", "local", "aws"},
		doc:   "Where VMs come from: only machines that were registered by hand, Terraform on this machine, or Terraform on AWS. See docs/provisioning.md.",
		field: func(c *Config) any { return &c.Provider }},

	{path: "server.public_url", parse: parseOrigin,
		doc:   "The address that VMs and participants use, such as `https://lablink.example.org`. Empty: worked out as described in \"The public URL\".",
		field: func(c *Config) any { return &c.Server.PublicURL }},
	{path: "server.trusted_proxies", kind: kindNets,
		doc:   "Addresses or networks (`10.0.0.0/8`) of reverse proxies whose forwarded client address is believed. In a variable: separated by commas.",
		field: func(c *Config) any { return &c.Server.TrustedProxies }},

	{path: "auth.machines", def: "token", allowed: []string{"token", "open"},
		doc:   "`token`: a VM shows its own token. `open`: no token is asked for, as the existing Python clients need; anybody who reaches the server can then pose as a VM.",
		field: func(c *Config) any { return &c.Auth.Machines }},

	{path: "provision.prefix", needed: true, def: "lablink-client-", parse: parsePrefix,
		doc:   "Hostnames of VMs are this prefix and a number.",
		field: func(c *Config) any { return &c.Provision.Prefix }},
	{path: "provision.module",
		doc:   "Folder of another Terraform module. Empty: the built-in one of the provider.",
		field: func(c *Config) any { return &c.Provision.Module }},
	{path: "provision.terraform",
		doc:   "Path of the `tofu` or `terraform` binary. Empty: found in PATH, else `.tools/tofu` as `make deps` builds it.",
		field: func(c *Config) any { return &c.Provision.Terraform }},

	{path: "aws.endpoint", parse: parseOrigin,
		doc:   "URL of an emulator that stands in for all of AWS. Empty: AWS itself.",
		field: func(c *Config) any { return &c.AWS.Endpoint }},
	{path: "aws.subnets", kind: kindTexts, parse: parseSubnet,
		doc:   "Subnets in which VMs are made, all of one VPC. Empty: the default subnets of the default VPC.",
		field: func(c *Config) any { return &c.AWS.Subnets }},
	{path: "aws.zones", kind: kindTexts, parse: parseZone,
		doc:   "Availability zones in which VMs are made, such as `us-west-2a`. Empty: all that have a subnet and offer the type.",
		field: func(c *Config) any { return &c.AWS.Zones }},
	{path: "aws.instance_types", kind: kindTexts, parse: parseInstanceType,
		doc:   "Instance types to try, in this order, where no zone has room for the one that was asked for. Empty: none.",
		field: func(c *Config) any { return &c.AWS.InstanceTypes }},
	{path: "aws.disk_gb", kind: kindInt, def: "80", min: 8, max: 16_384,
		doc:   "Size of a VM's disk, in GiB.",
		field: func(c *Config) any { return &c.AWS.DiskGB }},
	{path: "aws.elastic_ips", kind: kindBool, def: "false",
		doc:   "Whether each VM gets an Elastic IP, which stays the same when the VM stops and starts. An account has five unless AWS allows more.",
		field: func(c *Config) any { return &c.AWS.ElasticIPs }},
	{path: "aws.ssh_from", kind: kindNets,
		doc:   "Addresses from which VMs can be reached by SSH (port 22). Empty: from nowhere.",
		field: func(c *Config) any { return &c.AWS.SSHFrom }},
	{path: "aws.rdp_from", kind: kindNets,
		doc:   "Addresses from which VMs can be reached by RDP (port 3389). Empty: from nowhere. Chrome Remote Desktop needs no open port.",
		field: func(c *Config) any { return &c.AWS.RDPFrom }},
	{path: "aws.ssh_public_key", parse: parsePublicKey,
		doc:   "Public key for SSH, as in `~/.ssh/id_ed25519.pub`. Empty: VMs have none. It can be changed only while there are no VMs.",
		field: func(c *Config) any { return &c.AWS.SSHPublicKey }},
	{path: "aws.log_processor_arn", parse: parseARN,
		doc:   "The Lambda function that gets what VMs write to CloudWatch. Empty: none. It can be taken away only while there are no VMs.",
		field: func(c *Config) any { return &c.AWS.LogProcessorARN }},

	{path: "limits.max_vms", kind: kindInt, def: "200", min: 1, max: 10_000,
		doc:   "Most VMs of the provider that may be alive at once. Registered machines do not count.",
		field: func(c *Config) any { return &c.Limits.MaxVMs }},
	{path: "limits.max_registered", kind: kindInt, def: "20000", min: 1, max: 1_000_000,
		doc:   "Most machines that may be registered by hand.",
		field: func(c *Config) any { return &c.Limits.MaxRegistered }},
	{path: "limits.request_vm_per_minute", kind: kindInt, def: "600", min: 1, max: 1_000_000,
		doc:   "Requests for a VM per minute and client address. A classroom often shares one address.",
		field: func(c *Config) any { return &c.Limits.RequestVMPerMinute }},
	{path: "limits.request_vm_burst", kind: kindInt, def: "300", min: 1, max: 1_000_000,
		doc:   "Requests for a VM that one address may send at once, before the rate above counts.",
		field: func(c *Config) any { return &c.Limits.RequestVMBurst }},
	{path: "limits.body_bytes", kind: kindInt, def: "131072", min: 1 << 10, max: 64 << 20,
		doc:   "Largest JSON or form body, in bytes.",
		field: func(c *Config) any { return &c.Limits.BodyBytes }},
	{path: "limits.vm_requests_per_minute", kind: kindInt, def: "240", min: 10, max: 100_000,
		doc:   "Polls and reports of one VM. An agent sends about ten; each may become a line of the VM's history.",
		field: func(c *Config) any { return &c.Limits.VMRequestsPerMinute }},
	{path: "limits.vm_log_posts_per_minute", kind: kindInt, def: "1200", min: 10, max: 1_000_000,
		doc:   "Posts of logs by one VM. An agent sends two a second of each of its logs while they grow.",
		field: func(c *Config) any { return &c.Limits.VMLogPostsPerMinute }},
	{path: "limits.log_posts_per_minute", kind: kindInt, def: "60000", min: 10, max: 10_000_000,
		doc:   "Posts of logs by the log processor, for all VMs; with `auth.machines: open`, by one address.",
		field: func(c *Config) any { return &c.Limits.LogPostsPerMinute }},
	{path: "limits.login_failures_per_minute", kind: kindInt, def: "10", min: 1, max: 100_000,
		doc:   "Failed administrator log-ins per minute and client address. Good ones do not count.",
		field: func(c *Config) any { return &c.Limits.LoginFailuresPerMinute }},
	{path: "limits.pin_failures", kind: kindInt, def: "5", min: 1, max: 1000,
		doc:   "Wrong PINs per seat within `limits.pin_window`.",
		field: func(c *Config) any { return &c.Limits.PinFailures }},
	{path: "limits.pin_window", kind: kindDuration, def: "15m", min: seconds(1), max: seconds(24 * 3600),
		doc:   "See `limits.pin_failures`.",
		field: func(c *Config) any { return &c.Limits.PinWindow }},

	{path: "poll.max_wait", kind: kindDuration, def: "7d", min: seconds(1), max: seconds(7 * 24 * 3600),
		doc:   "How long the request of a waiting VM is held before it is told to ask again.",
		field: func(c *Config) any { return &c.Poll.MaxWait }},
	{path: "poll.keepalive", kind: kindDuration, def: "25s", min: seconds(1), max: seconds(60),
		doc:   "How often a held request is kept alive. Must be shorter than `poll.max_wait`, and than the idle time-out of any proxy in between.",
		field: func(c *Config) any { return &c.Poll.Keepalive }},

	{path: "crd.pin", kind: kindSecret, parse: parsePIN,
		doc:   "One PIN for all participants, 6 to 32 digits. Empty: six random digits per seat. With one PIN for all, whoever knows it and an e-mail address can open that seat.",
		field: func(c *Config) any { return &c.CRD.PIN }},
	{path: "logs.processor_token", kind: kindSecret, parse: parseToken,
		doc:   "The token that the log processor (Lambda) sends as its `API_TOKEN`. Empty: it cannot post logs.",
		field: func(c *Config) any { return &c.Logs.ProcessorToken }},
	{path: "logs.retention", kind: kindDuration, def: "7d", min: 0, max: seconds(3650 * 24 * 3600),
		doc:   "How long a VM's log is kept after the VM was destroyed. `0s`: it goes with the VM.",
		field: func(c *Config) any { return &c.Logs.Retention }},
	{path: "logs.max_lines", kind: kindInt, def: "1000000", min: 100, max: 100_000_000,
		doc:   "Most lines of one VM's log. Beyond, the oldest are dropped, and the log's first line says so.",
		field: func(c *Config) any { return &c.Logs.MaxLines }},
	{path: "logs.keep_unknown", kind: kindDuration, def: "1h", min: 0, max: seconds(7 * 24 * 3600),
		doc:   "How long lines of a VM that is not known are kept aside for when it appears. A destroyed VM still takes lines for as long.",
		field: func(c *Config) any { return &c.Logs.KeepUnknown }},
	{path: "logs.public", kind: kindBool, def: "false",
		doc:   "Whether anybody may read logs from `/api/vm-logs`, as in the Python system. Otherwise only the administrator, and a VM its own.",
		field: func(c *Config) any { return &c.Logs.Public }},
}

// keys is the whole table.
var keys = append(append([]*key{}, ourKeys...), pythonKeys...)

// keyByPath finds a key; children holds a section's keys and sections, by name.
var keyByPath, children = index()

func index() (byPath map[string]*key, names map[string][]string) {
	byPath, names = map[string]*key{}, map[string][]string{}
	for _, s := range sections {
		if s.path != "" {
			parent, name := splitPath(s.path)
			names[parent] = append(names[parent], name)
		}
	}
	for _, k := range keys {
		byPath[k.path] = k
		parent, name := splitPath(k.path)
		names[parent] = append(names[parent], name)
	}
	return byPath, names
}

// splitPath splits monitoring.budget.enabled into monitoring.budget and enabled.
func splitPath(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// joinPath is the reverse of splitPath.
func joinPath(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// isSection reports whether path is a section's.
func isSection(path string) bool { return len(children[path]) > 0 }
