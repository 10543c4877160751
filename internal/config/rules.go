package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// The rules here concern more than one key. Each is reported at the key that most likely has to change.

// conflict adds a problem at the key of this path, unless one of the keys involved has a problem of its own.
func (l *loader) conflict(path string, with []string, format string, args ...any) {
	for _, p := range append([]string{path}, with...) {
		if l.bad[keyByPath[p]] {
			return
		}
	}
	at, ok := l.origins[keyByPath[path]]
	if !ok { // a default: show the place of the other one
		for _, p := range with {
			if o, ok := l.origins[keyByPath[p]]; ok {
				at = o
				break
			}
		}
		at.key = path
	}
	l.add(at, format, args...)
}

// isWritten reports whether the file, the environment or a flag sets one of these keys.
func (l *loader) isWritten(paths ...string) bool {
	for _, p := range paths {
		if _, ok := l.origins[keyByPath[p]]; ok {
			return true
		}
	}
	return false
}

// isOlder reports whether the configuration is of the Python system's older generation. Its SSL settings were not
// looked at by what stood in front of the allocator, so the newer one's rules about them would refuse good files.
func (l *loader) isOlder() bool {
	return l.isWritten("dns.pattern", "dns.app_name", "dns.custom_subdomain", "dns.create_zone", "ssl.staging")
}

func (l *loader) checkRules() {
	c := l.cfg
	if c.Poll.Keepalive >= c.Poll.MaxWait {
		l.conflict("poll.keepalive", []string{"poll.max_wait"}, "(%s) must be shorter than poll.max_wait (%s)",
			showDuration(c.Poll.Keepalive), showDuration(c.Poll.MaxWait))
	}
	if c.isExternalDB() && c.DatabaseURL == "" && isPlaceholder(c.DB.Password.Reveal()) && l.isWritten("db.password") {
		l.conflict("db.password", []string{"db.host"}, "is a placeholder, but db.host names an external server; write the real password")
	}
	l.checkAWS()
	l.checkDNS()
	if !l.isOlder() {
		l.checkSSL()
	}
	if c.SSL.Provider == "acm" && c.SSL.CertificateARN == "" {
		l.conflict("ssl.certificate_arn", []string{"ssl.provider"}, "is needed by ssl.provider acm")
	}
	if c.Monitoring.Enabled && c.Monitoring.Email == "" {
		l.conflict("monitoring.email", []string{"monitoring.enabled"}, "is needed by monitoring.enabled true")
	}
}

// pythonImage begins the name of the Python system's client images.
const pythonImage = "ghcr.io/talmolab/lablink-client"

// checkAWS concerns the built-in module; what one's own needs, only that knows.
func (l *loader) checkAWS() {
	c := l.cfg
	switch {
	case c.Provider != ProviderAWS || c.Provision.Module != "":
	case c.Machine.Image == "":
		l.conflict("machine.image", []string{"provider"}, "is needed by provider aws: the container image that VMs run, see docs/client-image.md")
	case strings.HasPrefix(c.Machine.Image, pythonImage) && c.Auth.Machines == MachineToken:
		l.conflict("machine.image", []string{"provider", "auth.machines"}, "%s is the Python client, which shows no token: "+
			"write an image with the LabLink agent (docs/client-image.md), or auth.machines: open", c.Machine.Image)
	}
}

func (l *loader) checkDNS() {
	d := &l.cfg.DNS
	if l.isOlder() && d.Pattern == "" {
		d.Pattern = "auto"
	}
	if !d.Enabled {
		return
	}
	if d.Domain == "" {
		l.conflict("dns.domain", []string{"dns.enabled"}, "is needed by dns.enabled true; write the allocator's name, or turn dns.enabled off")
	}
	if (d.Pattern == "auto" || d.Pattern == "app-only") && d.AppName == "" {
		l.conflict("dns.app_name", []string{"dns.pattern"}, "is needed by dns.pattern %s; or use dns.pattern custom", d.Pattern)
	}
}

func (l *loader) checkSSL() {
	c := l.cfg
	if c.SSL.Provider == "none" {
		return
	}
	if !c.DNS.Enabled {
		l.conflict("ssl.provider", []string{"dns.enabled"}, "%s needs a name: turn dns.enabled on, or use none", c.SSL.Provider)
	}
	if c.SSL.Provider == "letsencrypt" && c.SSL.Email == "" {
		l.conflict("ssl.email", []string{"ssl.provider"}, "is needed by ssl.provider letsencrypt")
	}
	if c.SSL.Provider == "cloudflare" && c.DNS.TerraformManaged {
		l.conflict("dns.terraform_managed", []string{"ssl.provider"}, "must be false with ssl.provider cloudflare, which has the DNS record")
	}
}

// finish works out the values that come from others.
func (l *loader) finish() {
	c := l.cfg
	if c.DatabaseURL == "" && c.isExternalDB() {
		u := url.URL{
			Scheme: "postgres",
			User:   url.UserPassword(c.DB.User, c.DB.Password.Reveal()),
			Host:   net.JoinHostPort(strings.Trim(c.DB.Host, "[]"), strconv.Itoa(c.DB.Port)),
			Path:   "/" + c.DB.DBName,
		}
		c.DatabaseURL = Secret(u.String())
	}
	c.Server.PublicURL = c.DerivePublicURL()
	if c.Machine.AMIID == "" || c.App.Region != defaultRegion && !l.isWritten("machine.ami_id") {
		c.Machine.AMIID = AutoImage
	}
}

// defaultRegion is where the default machine image is.
const defaultRegion = "us-west-2"

// isExternalDB reports whether db.host is another machine. The Python system's own database was always local to it,
// and is not there in ours.
func (c *Config) isExternalDB() bool {
	host := strings.ToLower(strings.Trim(c.DB.Host, "[]"))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasPrefix(host, "/") {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.Unmap().IsLoopback() && !addr.IsUnspecified()
}

// DNSName returns the allocator's name, or "" if it has none. With a pattern it is the name for which the Python
// system's template really makes the record.
func (c *Config) DNSName() string {
	d := c.DNS
	if !d.Enabled || d.Domain == "" {
		return ""
	}
	labels := []string{d.Domain}
	switch d.Pattern {
	case "custom":
		labels = []string{d.CustomSubdomain, d.Domain}
	case "auto", "app-only":
		labels = []string{d.AppName, d.Domain}
		if c.Environment != "prod" {
			labels = append([]string{c.Environment}, labels...)
		}
	}
	return strings.ToLower(strings.TrimPrefix(strings.Join(labels, "."), "."))
}

// DerivePublicURL returns the first of: server.public_url; ALLOCATOR_FQDN; the DNS name, with https unless the SSL
// provider is none or ssl.staging is on; ALLOCATOR_PUBLIC_IP, with http, since no provider certifies an address; "".
func (c *Config) DerivePublicURL() string {
	if c.Server.PublicURL != "" {
		return c.Server.PublicURL
	}
	if c.AllocatorFQDN != "" {
		if u, err := parseFQDN(c.AllocatorFQDN); err == nil {
			return u
		}
	}
	if name := c.DNSName(); name != "" {
		if c.SSL.Provider == "none" || c.SSL.Staging {
			return "http://" + name
		}
		return "https://" + name
	}
	if addr, err := netip.ParseAddr(c.AllocatorPublicIP); err == nil {
		if addr.Is6() {
			return "http://[" + addr.String() + "]"
		}
		return "http://" + addr.String()
	}
	return ""
}
