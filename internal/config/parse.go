package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The functions here check and normalise text of one kind for the table of keys. Their errors say what is allowed;
// none holds the text itself.

func parseListen(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("must be HOST:PORT such as 127.0.0.1:5000, or :5000 for all addresses")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", errors.New("must end in a port from 0 to 65535, such as :5000")
	}
	if strings.ContainsAny(host, "/ @") {
		return "", errors.New("must be HOST:PORT without a scheme, such as 127.0.0.1:5000")
	}
	return text, nil
}

// parseOrigin accepts an http or https URL without path and query, and returns it without trailing slash and default
// port, in lower case.
func parseOrigin(text string) (string, error) {
	wrong := errors.New("must be http:// or https:// and a host, without path, query or user name, such as https://lablink.example.org")
	u, err := url.Parse(text)
	if err != nil {
		return "", wrong
	}
	bare := u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
	scheme := strings.ToLower(u.Scheme)
	if (scheme != "http" && scheme != "https") || u.Hostname() == "" || !bare {
		return "", wrong
	}
	port := u.Port()
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", errors.New("must have a port from 1 to 65535, or none")
		}
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && (scheme != "http" || port != "80") && (scheme != "https" || port != "443") {
		host += ":" + port
	}
	return scheme + "://" + host, nil
}

// parsePostgresURL accepts what pgx takes as a URL. The words of net/url's errors hold the URL, so they are not used.
func parsePostgresURL(text string) (string, error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return "", errors.New("must start with postgres://, as in postgres://USER:PASSWORD@HOST:5432/DATABASE")
	}
	u, err := url.Parse(text)
	if err != nil || u.Fragment != "" || u.Opaque != "" {
		return "", errors.New("must be a URL as in postgres://USER:PASSWORD@HOST:5432/DATABASE; " +
			"special characters in the password must be percent-encoded (# is %23, / is %2F, @ is %40, % is %25)")
	}
	return text, nil
}

// matching returns a function that accepts what a pattern matches.
func matching(pattern, allowed string) func(string) (string, error) {
	re := regexp.MustCompile(pattern)
	return func(text string) (string, error) {
		if !re.MatchString(text) {
			return "", errors.New(allowed)
		}
		return text, nil
	}
}

// What AWS names. Whether there is such a thing, only AWS knows.
var (
	parseSubnet       = matching(`^subnet-[0-9a-f]{8,17}$`, "must be the id of a subnet such as subnet-0a1b2c3d4e5f67890")
	parseZone         = matching(`^[a-z]{2}(-[a-z]+)+-\d[a-z0-9-]*[a-z]$`, "must be an availability zone such as us-west-2a")
	parseInstanceType = matching(`^[a-z0-9-]{2,24}\.[a-z0-9-]{2,24}$`, "must be an EC2 instance type such as g4dn.xlarge")
	parsePublicKey    = matching(`^(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/]{40,}={0,3}( .*)?$`,
		"must be a public key in one line, such as ssh-ed25519 AAAA... name")
	parseARN = matching(`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[A-Za-z0-9-_]+(:[A-Za-z0-9-_]+)?$`,
		"must be the ARN of a Lambda function such as arn:aws:lambda:us-west-2:123456789012:function:lablink-logproc")
)

// maxPrefix leaves room for a number of six digits in a label of 63 characters.
const maxPrefix = 57

func parsePrefix(text string) (string, error) {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (r != '-' || i == 0) {
			return "", errors.New("must begin a host name: lower-case letters, digits and dashes, not starting with a dash")
		}
	}
	if len(text) > maxPrefix {
		return "", fmt.Errorf("must have at most %d characters, because host names end at 63", maxPrefix)
	}
	return text, nil
}

func parsePIN(text string) (string, error) {
	digits := strings.Trim(text, "0123456789") == ""
	if !digits || len(text) < 6 || len(text) > 32 {
		return "", errors.New("must be 6 to 32 digits; leave it out for a random PIN per participant")
	}
	return text, nil
}

func parseToken(text string) (string, error) {
	if isPlaceholder(text) {
		return "", errors.New("is a placeholder that everybody knows; write a long random token, for example from: openssl rand -hex 32")
	}
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return "", errors.New("must be printable ASCII without spaces, because it is sent in an HTTP header")
		}
	}
	return text, nil
}

func parseUser(text string) (string, error) {
	if strings.Contains(text, ":") {
		return "", errors.New("must not hold a colon, because HTTP Basic log-ins cannot send it")
	}
	return text, nil
}

// maxPassword is where bcrypt ends.
const maxPassword = 72

func parsePassword(text string) (string, error) {
	if isPlaceholder(text) {
		return "", errors.New("is a placeholder that everybody knows; write a real password, " +
			"or leave it out: lablink serve then makes one and keeps it in admin-password under the data folder")
	}
	if len(text) > maxPassword {
		return "", fmt.Errorf("must have at most %d bytes", maxPassword)
	}
	return text, nil
}

// isPlaceholder reports whether text is one of the passwords that templates and tutorials ship.
func isPlaceholder(text string) bool {
	t := strings.ToLower(strings.TrimSpace(text))
	for _, prefix := range []string{"placeholder", "changeme", "change_me", "change-me", "${"} {
		if strings.HasPrefix(t, prefix) {
			return true
		}
	}
	switch t {
	case "admin", "admin_password", "admin-password", "password", "secret", "lablink", "your_password", "your-password",
		"<password>", "replace_me", "replaceme", "changeit":
		return true
	}
	return false
}

func parseExtension(text string) (string, error) {
	if strings.HasPrefix(text, ".") {
		return "", errors.New("must be without the dot, as in slp")
	}
	return text, nil
}

// parseDomain accepts a DNS name or a part of one.
func parseDomain(text string) (string, error) {
	if strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") {
		return "", errors.New("must not start or end with a dot")
	}
	for label := range strings.SplitSeq(text, ".") {
		if !isLabel(label) {
			return "", errors.New("must be a DNS name such as lablink.example.org, without scheme, port or path")
		}
	}
	return text, nil
}

// isLabel reports whether s is an RFC 1123 label, in any case.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range strings.ToLower(s) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}

func parseEmail(text string) (string, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 1 || at == len(text)-1 || strings.ContainsAny(text, " <>,") {
		return "", errors.New("must be one e-mail address, such as name@example.org")
	}
	return text, nil
}

func parseEnvironment(text string) (string, error) {
	text = strings.ReplaceAll(strings.ToLower(text), " ", "-")
	if !isLabel(text) {
		return "", errors.New("must be letters, digits and dashes, such as prod or ci-test, because host names hold it")
	}
	return text, nil
}

func parseIP(text string) (string, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "", errors.New("must be an IP address such as 203.0.113.7")
	}
	return a.String(), nil
}

// parseFQDN accepts a URL or a host name and returns a URL.
func parseFQDN(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	return parseOrigin(text)
}

// checkFQDN checks what parseFQDN accepts, and leaves it as it was given.
func checkFQDN(text string) (string, error) {
	_, err := parseFQDN(text)
	return text, err
}
