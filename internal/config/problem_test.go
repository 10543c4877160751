package config

import (
	"os"
	"strings"
	"testing"
)

// TestLoad_TenMistakes compares all that is said about a file with many mistakes with a file of its own.
func TestLoad_TenMistakes(t *testing.T) {
	const file, golden = "testdata/ten-mistakes.yaml", "testdata/ten-mistakes.golden"
	_, err := Load(Options{File: file})
	if err == nil {
		t.Fatal("accepted")
	}
	have, readErr := os.ReadFile(golden)
	if readErr != nil && !*update {
		t.Fatal(readErr)
	}
	compareOrUpdate(t, golden, string(have), err.Error()+"\n")
}

// TestLoad_Problems tells for each mistake exactly what is said, and where.
func TestLoad_Problems(t *testing.T) {
	const placeholder = "is a placeholder that everybody knows; write a real password, or leave it out: " +
		"lablink serve then makes one and keeps it in admin-password under the data folder"
	const number = "must be a whole number such as 200, found "
	const duration = "must be a duration with its unit, such as 25s, 10m, 48h or 7d"
	const origin = "must be http:// or https:// and a host, without path, query or user name, such as https://lablink.example.org"
	const postgres = "must start with postgres://, as in postgres://USER:PASSWORD@HOST:5432/DATABASE"
	const prefix = "must begin a host name: lower-case letters, digits and dashes, not starting with a dash"
	const alias = "an anchor or alias, which are not supported; put quotes around text that starts with & or *"
	for name, tc := range map[string]struct{ text, want string }{
		// Names.
		"unknown section":        {"\nlimit:\n  max_vms: 1\n", "F:2: limit: unknown key; did you mean limits?"},
		"nearest key":            {"limits:\n  max_vm: 1\n", "F:2: limits.max_vm: unknown key; did you mean limits.max_vms?"},
		"swapped letters":        {"prvoider: aws\n", "F:1: prvoider: unknown key; did you mean provider?"},
		"three levels down":      {"monitoring:\n  budget:\n    enable: true\n", "F:3: monitoring.budget.enable: unknown key; did you mean monitoring.budget.enabled?"},
		"wrong section":          {"limits:\n  region: x\n", "F:2: limits.region: there is no region in limits; it belongs to app"},
		"wrong section, several": {"ssl:\n  enabled: true\n", "F:2: ssl.enabled: there is no enabled in ssl; it belongs to dns, startup_script, monitoring or monitoring.budget"},
		"at the top instead":     {"max_vms: 2\n", "F:1: max_vms: there is no max_vms at the top level; it belongs to limits"},
		"a section too deep":     {"monitoring:\n  limits: {}\n", "F:2: monitoring.limits: there is no limits in monitoring; it belongs to the top level"},
		"misspelt and misplaced": {"max_vm: 2\n", "F:1: max_vm: unknown key; did you mean limits.max_vms?"},
		"case":                   {"Limits: {}\n", "F:1: Limits: unknown key; it is spelt limits"},
		"dashes":                 {"data-dir: /x\n", "F:1: data-dir: unknown key; it is spelt data_dir"},
		"dotted":                 {"limits.max_vms: 2\n", "F:1: limits.max_vms: unknown key; write max_vms: indented under limits:"},
		"flat":                   {"ssl_provider: acm\n", "F:1: ssl_provider: unknown key; write provider: indented under ssl:"},
		"nothing near":           {"auth:\n  quux: 1\n", "F:2: auth.quux: unknown key; the keys in auth are machines"},
		"control characters":     {"\"a\\eb\": 1\n", "F:1: \"a\\x1bb\": unknown key; the keys at the top level are " + strings.Join(children[""], ", ")},
		"twice":                  {"listen: :1\n# two\nlisten: :2\n", "F:3: listen: is written twice, first on line 1; remove one"},
		"section twice":          {"auth: {}\nauth: {}\n", "F:2: auth: is written twice, first on line 1; remove one"},

		// Types.
		"list for a section":  {"limits:\n  - max_vms\n", "F:1: limits: is a section: its keys go below it, indented (" + strings.Join(children["limits"], ", ") + "); found a list"},
		"value for a section": {"auth: open\n", "F:1: auth: is a section: its keys go below it, indented (machines); found a single value"},
		"section for text":    {"listen:\n  port: 1\n", "F:1: listen: must be text, found a section with keys of its own"},
		"list for a number":   {"limits:\n  max_vms: [1]\n", "F:2: limits.max_vms: must be a whole number, found a list"},
		"text for a number":   {"limits:\n  max_vms: many\n", "F:2: limits.max_vms: " + number + `"many"`},
		"fraction":            {"limits:\n  max_vms: 1.5\n", "F:2: limits.max_vms: " + number + `"1.5"`},
		"too large a number":  {"limits:\n  max_vms: 99999999999999999999\n", "F:2: limits.max_vms: " + number + `"99999999999999999999"`},
		"not a boolean":       {"dns:\n  enabled: maybe\n", `F:2: dns.enabled: must be true or false, found "maybe"`},
		"duration, no unit":   {"poll:\n  keepalive: 25\n", "F:2: poll.keepalive: " + duration + `, found "25"`},
		"duration, bad days":  {"poll:\n  max_wait: -1d\n", "F:2: poll.max_wait: " + duration + `, found "-1d"`},
		"list in a list":      {"server:\n  trusted_proxies:\n    - 10.0.0.1\n    - [x]\n", "F:4: server.trusted_proxies: must be a list of addresses, found a list in it"},
		"control character":   {"data_dir: \"a\\tb\"\n", "F:1: data_dir: must be one line, without control characters"},
		"empty listen":        {"listen: ''\n", "F:1: listen: must not be empty; leave the key out for the default, :5000"},
		"empty choice":        {"ssl: {provider: ''}\n", "F:1: ssl.provider: must not be empty; leave the key out for the default, none"},

		// Values.
		"choice":              {"provider: gcp\n", `F:1: provider: must be none, local or aws, found "gcp"`},
		"choice, nearly":      {"dns:\n  pattern: cutsom\n", `F:2: dns.pattern: must be auto, app-only or custom, found "cutsom"; did you mean custom?`},
		"choice, case":        {"provider: AWS\n", `F:1: provider: must be none, local or aws, found "AWS"; did you mean aws?`},
		"only choice":         {"db:\n  table_name: vm_table\n", `F:2: db.table_name: can only be vms here; write that or leave the key out, found "vm_table"`},
		"zero":                {"limits:\n  max_vms: 0\n", "F:2: limits.max_vms: must be from 1 to 10000, found 0"},
		"no upper bound":      {"monitoring:\n  cloudtrail:\n    retention_days: 0\n", "F:3: monitoring.cloudtrail.retention_days: must be 1 or more, found 0"},
		"too long a wait":     {"poll:\n  max_wait: 169h\n", "F:2: poll.max_wait: must be from 1s to 7d, found 169h"},
		"too slow a tick":     {"poll:\n  keepalive: 5m1s\n", "F:2: poll.keepalive: must be from 1s to 1m, found 5m1s"},
		"listen, no port":     {"listen: localhost\n", `F:1: listen: must be HOST:PORT such as 127.0.0.1:5000, or :5000 for all addresses, found "localhost"`},
		"listen, bad port":    {"listen: :70000\n", `F:1: listen: must end in a port from 0 to 65535, such as :5000, found ":70000"`},
		"listen, a URL":       {"listen: //x:80\n", `F:1: listen: must be HOST:PORT without a scheme, such as 127.0.0.1:5000, found "//x:80"`},
		"public URL, path":    {"server:\n  public_url: https://x/y\n", "F:2: server.public_url: " + origin + `, found "https://x/y"`},
		"public URL, query":   {"server:\n  public_url: https://x?y\n", "F:2: server.public_url: " + origin + `, found "https://x?y"`},
		"public URL, scheme":  {"server:\n  public_url: x.example.org\n", "F:2: server.public_url: " + origin + `, found "x.example.org"`},
		"public URL, user":    {"server:\n  public_url: https://u:hunter2@x\n", "F:2: server.public_url: " + origin},
		"public URL, port":    {"server:\n  public_url: https://x:0\n", `F:2: server.public_url: must have a port from 1 to 65535, or none, found "https://x:0"`},
		"proxy":               {"server:\n  trusted_proxies: [10.0.0.0/8,\n    10.0.0.300]\n", `F:3: server.trusted_proxies: must be an IP address or a network such as 10.0.0.0/8, found "10.0.0.300"`},
		"proxy, bad network":  {"server:\n  trusted_proxies: 10.0.0.0/33\n", `F:2: server.trusted_proxies: must be an IP address or a network such as 10.0.0.0/8, found "10.0.0.0/33"`},
		"database, scheme":    {"database_url: mysql://u:hunter2@h/d\n", "F:1: database_url: " + postgres},
		"database, not coded": {"database_url: postgres://u:hun#ter2@h/d\n", "F:1: database_url: must be a URL as in postgres://USER:PASSWORD@HOST:5432/DATABASE; special characters in the password must be percent-encoded (# is %23, / is %2F, @ is %40, % is %25)"},
		"prefix, capitals":    {"provision:\n  prefix: Lab-\n", "F:2: provision.prefix: " + prefix + `, found "Lab-"`},
		"prefix, dash":        {"provision:\n  prefix: -lab\n", "F:2: provision.prefix: " + prefix + `, found "-lab"`},
		"prefix, dot":         {"provision:\n  prefix: lab.vm-\n", "F:2: provision.prefix: " + prefix + `, found "lab.vm-"`},
		"prefix, long":        {"provision:\n  prefix: " + strings.Repeat("x", 58) + "\n", "F:2: provision.prefix: must have at most 57 characters, because host names end at 63, found \"" + strings.Repeat("x", 40) + "...\""},
		"PIN, short":          {"crd:\n  pin: 12345\n", "F:2: crd.pin: must be 6 to 32 digits; leave it out for a random PIN per participant"},
		"PIN, letters":        {"crd:\n  pin: hunter2\n", "F:2: crd.pin: must be 6 to 32 digits; leave it out for a random PIN per participant"},
		"token, placeholder":  {"logs:\n  processor_token: CHANGEME\n", "F:2: logs.processor_token: is a placeholder that everybody knows; write a long random token, for example from: openssl rand -hex 32"},
		"token, spaces":       {"logs:\n  processor_token: a b\n", "F:2: logs.processor_token: must be printable ASCII without spaces, because it is sent in an HTTP header"},
		"user with a colon":   {"app:\n  admin_user: a:b\n", `F:2: app.admin_user: must not hold a colon, because HTTP Basic log-ins cannot send it, found "a:b"`},
		"password: template":  {"app:\n  admin_password: PLACEHOLDER_ADMIN_PASSWORD\n", "F:2: app.admin_password: " + placeholder},
		"password: CI":        {"app:\n  admin_password: CHANGEME_admin\n", "F:2: app.admin_password: " + placeholder},
		"password: contract":  {"app:\n  admin_password: admin_password\n", "F:2: app.admin_password: " + placeholder},
		"password: admin":     {"app:\n  admin_password: Admin\n", "F:2: app.admin_password: " + placeholder},
		"password: long":      {"app:\n  admin_password: " + strings.Repeat("x", 73) + "\n", "F:2: app.admin_password: must have at most 72 bytes"},
		"extension":           {"machine:\n  extension: .slp\n", `F:2: machine.extension: must be without the dot, as in slp, found ".slp"`},
		"domain, dot":         {"dns:\n  domain: .example.org\n", `F:2: dns.domain: must not start or end with a dot, found ".example.org"`},
		"domain, last dot":    {"dns:\n  domain: example.org.\n", `F:2: dns.domain: must not start or end with a dot, found "example.org."`},
		"domain, a URL":       {"dns:\n  domain: https://example.org\n", `F:2: dns.domain: must be a DNS name such as lablink.example.org, without scheme, port or path, found "https://example.org"`},
		"e-mail":              {"ssl:\n  email: nobody\n", `F:2: ssl.email: must be one e-mail address, such as name@example.org, found "nobody"`},

		// YAML.
		"syntax":            {"listen: :1\ndata_dir: a: b\n", "F:2: is not valid YAML: mapping value is not allowed in this context; check the indentation, and put quotes around text that holds a colon and a space"},
		"open quotes":       {"listen: :1\ndata_dir: \"x\n", "F:2: is not valid YAML: could not find end character of double-quoted text"},
		"reserved":          {"data_dir: @x\n", "F:1: is not valid YAML: '@' is a reserved character; put quotes around the text"},
		"block header":      {"data_dir: >9999 x\n", "F:1: is not valid YAML: invalid header option"},
		"tab":               {"limits:\n\tmax_vms: 1\n", "F:2: is not valid YAML: a tab; indent with spaces"},
		"list at the top":   {"# x\n- listen\n", "F:2: must hold keys such as \"provider: local\" at the top, found a list"},
		"text at the top":   {"hello\n", "F:1: must hold keys such as \"provider: local\" at the top, found a single value"},
		"second document":   {"listen: :1\n---\nlisten: :2\n", "F:3: holds a second YAML document; remove what follows the line ---"},
		"anchor":            {"data_dir: &a x\n", "F:1: data_dir: must be text, found " + alias},
		"alias":             {"app:\n  admin_password: *hunter2\n", "F:2: app.admin_password: must be text, found " + alias},
		"merge key":         {"limits:\n  <<: {max_vms: 1}\n", "F:2: limits: has a key that is not plain text; anchors, aliases and merge keys are not supported"},
		"not UTF-8":         {"listen: :1\ndata_dir: \xff\n", "F:2: is not UTF-8 text; save the file as UTF-8"},
		"too large":         {strings.Repeat("#\n", 1<<19+1), "F: is larger than 1 MiB; that is no LabLink configuration"},
		"too much":          {strings.Repeat("[", 2*maxTokens), "F: holds far more than a LabLink configuration can; is it the right file?"},
		"deep, just let in": {"data_dir: " + strings.Repeat("[", maxTokens-10), "F:1: is not valid YAML: sequence end token ']' not found"},
		"Windows lines":     {"listen: :1\r\n\r\nlimits:\r\n  max_vm: 1\r\n", "F:4: limits.max_vm: unknown key; did you mean limits.max_vms?"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, Options{File: write(t, tc.text)}); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// TestLoad_Rules is about keys that contradict each other.
func TestLoad_Rules(t *testing.T) {
	const older = "dns: {enabled: true, domain: example.org, pattern: auto}\n"
	for name, tc := range map[string]struct{ text, want string }{
		"keepalive not shorter":   {"poll:\n  keepalive: 10s\n  max_wait: 10s\n", "F:2: poll.keepalive: (10s) must be shorter than poll.max_wait (10s)"},
		"keepalive by default":    {"poll:\n  max_wait: 10s\n", "F:2: poll.keepalive: (25s) must be shorter than poll.max_wait (10s)"},
		"one problem per key":     {"poll:\n  max_wait: 10\n  keepalive: 50s\n", "F:2: poll.max_wait: must be a duration with its unit, such as 25s, 10m, 48h or 7d, found \"10\""},
		"DNS without domain":      {"dns:\n  enabled: true\n", "F:2: dns.domain: is needed by dns.enabled true; write the allocator's name, or turn dns.enabled off"},
		"SSL without DNS":         {"ssl:\n  provider: cloudflare\ndns:\n  terraform_managed: false\n", "F:2: ssl.provider: cloudflare needs a name: turn dns.enabled on, or use none"},
		"letsencrypt, no e-mail":  {"dns: {enabled: true, domain: x.org}\nssl:\n  provider: letsencrypt\n", "F:3: ssl.email: is needed by ssl.provider letsencrypt"},
		"acm, no certificate":     {"dns: {enabled: true, domain: x.org}\nssl:\n  provider: acm\n", "F:3: ssl.certificate_arn: is needed by ssl.provider acm"},
		"cloudflare, Terraform":   {"dns: {enabled: true, domain: x.org}\nssl:\n  provider: cloudflare\n", "F:3: dns.terraform_managed: must be false with ssl.provider cloudflare, which has the DNS record"},
		"older: e-mail not asked": {older + "ssl: {provider: letsencrypt}\n", ""},
		"older: SSL without DNS":  {"ssl: {provider: letsencrypt, staging: true}\n", ""},
		"older: cloudflare":       {older + "ssl: {provider: cloudflare}\n", ""},
		"older: no domain":        {"dns:\n  enabled: true\n  pattern: custom\n", "F:2: dns.domain: is needed by dns.enabled true; write the allocator's name, or turn dns.enabled off"},
		"older: no app name":      {"dns:\n  enabled: true\n  domain: x.org\n  app_name: ''\n", "F:4: dns.app_name: is needed by dns.pattern auto; or use dns.pattern custom"},
		"local DB placeholder":    {"db: {password: PLACEHOLDER_DB_PASSWORD, host: 127.0.0.1}\n", ""},
		"external DB placeholder": {"db:\n  host: db.example.org\n  password: PLACEHOLDER_DB_PASSWORD\n", "F:3: db.password: is a placeholder, but db.host names an external server; write the real password"},
		"monitoring":              {"monitoring:\n  enabled: true\n", "F:2: monitoring.email: is needed by monitoring.enabled true"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, Options{File: write(t, tc.text)}); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestLoad_ProblemsElsewhere(t *testing.T) {
	for name, tc := range map[string]struct {
		environ []string
		flags   map[string]string
		want    string
	}{
		"misspelt":          {[]string{"LABLINK_LIMITS_MAX_VM=1"}, nil, "environment: LABLINK_LIMITS_MAX_VM: unknown variable; did you mean LABLINK_LIMITS_MAX_VMS?"},
		"misspelt alias":    {[]string{"LABLINK_ADMIN_PASWORD=hunter2"}, nil, "environment: LABLINK_ADMIN_PASWORD: unknown variable; did you mean LABLINK_ADMIN_PASSWORD?"},
		"two, sorted":       {[]string{"LABLINK_LISTN=1", "LABLINK_DATADIR=1"}, nil, "environment: LABLINK_DATADIR: unknown variable; did you mean LABLINK_DATA_DIR?\nenvironment: LABLINK_LISTN: unknown variable; did you mean LABLINK_LISTEN?"},
		"both names differ": {[]string{"LABLINK_ADMIN_USER=a", "LABLINK_APP_ADMIN_USER=b"}, nil, "environment: LABLINK_ADMIN_USER: differs from LABLINK_APP_ADMIN_USER, which means the same; set only one"},
		"environment":       {[]string{"ENVIRONMENT=a/b"}, nil, "environment: ENVIRONMENT: must be letters, digits and dashes, such as prod or ci-test, because host names hold it"},
		"address":           {[]string{"ALLOCATOR_PUBLIC_IP=N/A"}, nil, "environment: ALLOCATOR_PUBLIC_IP: must be an IP address such as 203.0.113.7"},
		"rule":              {[]string{"LABLINK_POLL_MAX_WAIT=20s"}, nil, "environment: poll.keepalive: (25s) must be shorter than poll.max_wait (20s)"},
		"flag":              {nil, map[string]string{"database-url": "hunter2"}, "command line: --database-url: must start with postgres://, as in postgres://USER:PASSWORD@HOST:5432/DATABASE"},
		"no such flag":      {nil, map[string]string{"lissen": "x"}, "command line: --lissen: is not a flag of the configuration"},
		"beaten, but wrong": {[]string{"LABLINK_LISTEN=x:y"}, map[string]string{"listen": ":1"}, `environment: LABLINK_LISTEN: must end in a port from 0 to 65535, such as :5000, found "x:y"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, Options{File: write(t, ""), Environ: tc.environ, Flags: tc.flags}); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}
