package agent

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// NormalizeAllocator checks the allocator's address and takes out what the
// existing system's configuration is known to leave in: trailing slashes, and a
// dot before the domain when the subdomain is empty.
func NormalizeAllocator(s string) (string, error) {
	s = strings.TrimRight(strings.TrimSpace(s), "/")
	s = strings.Replace(s, "://.", "://", 1)
	if s == "" {
		return "", errors.New("the allocator's address is missing")
	}
	u, err := url.Parse(s)
	if strings.Contains(s, "@") || err == nil && u.User != nil {
		// Not quoted: there is a password in it, which would reach the log each day.
		return "", errors.New("the allocator's address must not hold a user name or password")
	}
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the allocator's address %q is not of the form https://HOST or http://HOST:PORT", clip(s))
	}
	return s, nil
}
