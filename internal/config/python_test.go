package config

import (
	"os"
	"regexp"
	"testing"
)

// common is what olderFile and newerFile share; with it, they have every key of the two generations of the Python
// system's files.
const common = `
db:
  dbname: "lablink_db"
  user: "lablink"
  password: "PLACEHOLDER_DB_PASSWORD"
  host: "localhost"
  port: 5432
  table_name: "vms"
  message_channel: "vm_updates"

machine:
  machine_type: "g4dn.xlarge"
  repository: "https://github.com/talmolab/sleap-tutorial-data.git"
  image: "ghcr.io/talmolab/lablink-client-base-image:linux-amd64-latest-test"
  ami_id: "ami-0601752c11b394251"
  software: "sleap"
  extension: "slp"

allocator:
  image_tag: "linux-amd64-latest-test"

app:
  admin_user: "admin"
  admin_password: "p4/ss&word"
  region: "us-west-2"

eip:
  strategy: "persistent"
  tag_name: "lablink-eip"

startup_script:
  enabled: true
  path: "config/custom-startup.sh"
  on_error: "continue"

bucket_name: "tf-state-lablink-example"
`

const olderFile = common + `
dns:
  enabled: true
  terraform_managed: true
  domain: "example.com"
  zone_id: ""
  app_name: ""
  pattern: "custom"
  custom_subdomain: "test"
  create_zone: false

ssl:
  provider: "letsencrypt"
  email: ""
  staging: true

monitoring:
  enabled: false
  email: ""
  thresholds:
    max_instances_per_5min: 10
    max_terminations_per_5min: 20
    max_iam_roles_per_hour: 5
    max_security_group_changes_per_hour: 10
    max_unauthorized_calls_per_15min: 5
  budget:
    enabled: false
    monthly_budget_usd: 500
  cloudtrail:
    retention_days: 90
`

const newerFile = common + `
dns:
  enabled: true
  terraform_managed: false
  domain: "dev.lablink.example.com"
  zone_id: ""

ssl:
  provider: "letsencrypt"
  email: "admin@example.com"
  certificate_arn: ""

monitoring:
  enabled: true
  email: "admin@example.com"
  thresholds:
    max_instances_per_5min: 10
    max_terminations_per_5min: 20
    max_unauthorized_calls_per_15min: 5
  budget:
    enabled: true
    monthly_budget_usd: 500
  cloudtrail:
    retention_days: 90
`

func TestLoad_PythonFiles(t *testing.T) {
	older := load(t, Options{File: write(t, olderFile)})
	if older.Server.PublicURL != "http://test.example.com" || older.BucketName != "tf-state-lablink-example" || older.DatabaseURL != "" {
		t.Errorf("older: %s %s", older.Server.PublicURL, older.BucketName)
	}
	newer := load(t, Options{File: write(t, newerFile)})
	if newer.Server.PublicURL != "https://dev.lablink.example.com" || newer.DNS.Pattern != "" || newer.Admin.Password.Reveal() != "p4/ss&word" {
		t.Errorf("newer: %s %q", newer.Server.PublicURL, newer.DNS.Pattern)
	}
}

func TestExampleFile(t *testing.T) {
	const path = "../../deploy/config.example.yaml"
	if err := ValidateFile(path, nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What the scripts around LabLink look for with grep -A.
	for _, pattern := range []string{
		`(?m)^bucket_name:`,
		`(?m)^app:\n(.*\n){0,4}  region:`,
		`(?m)^ssl:\n(.*\n){0,4}  provider:`,
		`(?m)^dns:\n(.*\n){0,9}  enabled:`,
		`(?m)^dns:\n(.*\n){0,9}  domain:`,
		`(?m)^allocator:\n(.*\n){0,4}  image_tag:`,
	} {
		if !regexp.MustCompile(pattern).Match(data) {
			t.Errorf("%s does not match %s", path, pattern)
		}
	}
}

func TestConfig_DerivePublicURL(t *testing.T) {
	const ip = "ALLOCATOR_PUBLIC_IP=203.0.113.7"
	const newer = "dns: {enabled: true, domain: lab.example.org}\n"
	older := func(rest string) string { return "dns: {enabled: true, domain: example.org, " + rest + "}\n" }
	for name, tc := range map[string]struct {
		text    string
		environ []string
		want    string
	}{
		"nothing known":               {"", nil, ""},
		"written":                     {newer + "server: {public_url: 'HTTPS://Lab.Example.org:443/'}\n", []string{"ALLOCATOR_FQDN=https://other"}, "https://lab.example.org"},
		"written, port":               {"server: {public_url: 'http://[2001:DB8::1]:8080'}\n", nil, "http://[2001:db8::1]:8080"},
		"FQDN":                        {newer, []string{"ALLOCATOR_FQDN=https://fq.example.org/", ip}, "https://fq.example.org"},
		"FQDN without scheme":         {newer, []string{"ALLOCATOR_FQDN=fq.example.org"}, "http://fq.example.org"},
		"address":                     {"", []string{ip}, "http://203.0.113.7"},
		"address, IPv6":               {"", []string{"ALLOCATOR_PUBLIC_IP=2001:db8::1"}, "http://[2001:db8::1]"},
		"address, DNS off":            {"dns: {domain: x.org}\n", []string{ip}, "http://203.0.113.7"},
		"address, older, SSL":         {"dns: {pattern: auto}\nssl: {provider: letsencrypt}\n", []string{ip}, "http://203.0.113.7"},
		"newer, no SSL":               {newer, []string{ip}, "http://lab.example.org"},
		"newer, SSL":                  {newer + "ssl: {provider: letsencrypt, email: a@b.c}\n", []string{ip, "ENVIRONMENT=dev"}, "https://lab.example.org"},
		"newer, acm":                  {newer + "ssl: {provider: acm, certificate_arn: 'arn:x'}\n", nil, "https://lab.example.org"},
		"older, custom":               {older("pattern: custom, custom_subdomain: sub"), nil, "http://sub.example.org"},
		"older, custom, empty":        {older("pattern: custom"), nil, "http://example.org"},
		"older, auto, prod":           {older("pattern: auto"), nil, "http://lablink.example.org"},
		"older, auto, other":          {older("pattern: auto, app_name: app"), []string{"ENVIRONMENT=Test"}, "http://test.app.example.org"},
		"older, app-only":             {older("pattern: app-only"), []string{"ENVIRONMENT=dev"}, "http://dev.lablink.example.org"},
		"older by another key":        {older("create_zone: true"), nil, "http://lablink.example.org"},
		"older, SSL":                  {older("pattern: auto") + "ssl: {provider: letsencrypt}\n", nil, "https://lablink.example.org"},
		"older, SSL, staging":         {older("pattern: auto") + "ssl: {provider: letsencrypt, staging: true}\n", nil, "http://lablink.example.org"},
		"older by a variable":         {newer, []string{"LABLINK_DNS_PATTERN=custom", "LABLINK_DNS_CUSTOM_SUBDOMAIN=x"}, "http://x.lab.example.org"},
		"the environment's public IP": {"ssl: {provider: none}\n", []string{"ALLOCATOR_PUBLIC_IP= 203.0.113.7\n"}, "http://203.0.113.7"},
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, Options{File: write(t, tc.text), Environ: tc.environ})
			if c.Server.PublicURL != tc.want || c.DerivePublicURL() != tc.want {
				t.Errorf("got %q, then %q, want %q", c.Server.PublicURL, c.DerivePublicURL(), tc.want)
			}
		})
	}
}

func TestLoad_DatabaseURL(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"none":              {"", ""},
		"localhost":         {"db: {host: LocalHost}\n", ""},
		"loopback":          {"db: {host: 127.0.1.1}\n", ""},
		"loopback, IPv6":    {"db: {host: '::1'}\n", ""},
		"socket":            {"db: {host: /run/postgresql}\n", ""},
		"empty":             {"db: {host: ''}\n", ""},
		"external":          {"db: {host: db.example.org, password: 'a/b@c#d', user: me}\n", "postgres://me:a%2Fb%40c%23d@db.example.org:5432/lablink_db"},
		"external, IPv6":    {"db: {host: '2001:db8::1', password: x, port: 6000}\n", "postgres://lablink:x@[2001:db8::1]:6000/lablink_db"},
		"the URL wins":      {"db: {host: db.example.org}\ndatabase_url: postgresql://x/y\n", "postgresql://x/y"},
		"several hosts":     {"database_url: postgres://u:p@h1:5432,h2:5432/d\n", "postgres://u:p@h1:5432,h2:5432/d"},
		"a socket by a URL": {"database_url: postgres:///d?host=/run/pg\n", "postgres:///d?host=/run/pg"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := load(t, Options{File: write(t, tc.text)}).DatabaseURL.Reveal(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
