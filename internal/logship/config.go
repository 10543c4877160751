package logship

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"lablink/internal/wire"
)

// Config says where logs go.
type Config struct {
	Endpoint string // a whole URL
	Token    string // "" sends none
	Python   bool   // the allocator is that of the Python system
}

// Values of API_FORMAT.
const (
	formatLabLink = "lablink"
	formatPython  = "python"
)

// Configure reads the configuration from the environment. The warnings are worth
// to be seen by whoever set it. Its texts do not show the token.
func Configure(getenv func(string) string) (c Config, warnings []string, err error) {
	var problems []error
	c.Endpoint, warnings, err = endpoint(getenv("API_ENDPOINT"))
	if err != nil {
		problems = append(problems, fmt.Errorf("set API_ENDPOINT to the allocator's address and %s, such as https://lablink.example.org%s: %w",
			wire.PathLogs, wire.PathLogs, err))
	}
	switch format := getenv("API_FORMAT"); format {
	case "", formatLabLink:
	case formatPython:
		c.Python = true
	default:
		problems = append(problems, fmt.Errorf("set API_FORMAT to %s, or to %s for the allocator of the Python system, not to %q", formatLabLink, formatPython, format))
	}
	c.Token = strings.TrimSpace(getenv("API_TOKEN"))
	if strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		problems = append(problems, errors.New("set API_TOKEN to the value of logs.processor_token: what it is now cannot be sent as a token"))
	}
	if c.Token == "" && !c.Python {
		problems = append(problems, fmt.Errorf("set API_TOKEN to the value of logs.processor_token in the allocator's configuration, or API_FORMAT=%s", formatPython))
	}
	return c, warnings, errors.Join(problems...)
}

func endpoint(text string) (address string, warnings []string, err error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", nil, errors.New("it is not set")
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
		warnings = append(warnings, "API_ENDPOINT has no scheme and is understood as http://: logs and token travel unencrypted unless the allocator redirects to HTTPS")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", nil, errors.New("it is no URL") // which may hold a password
	case u.Scheme != "http" && u.Scheme != "https":
		return "", nil, errors.New("it must begin with http:// or https://")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", nil, errors.New("it must have neither a user nor a part behind ? or #")
	case u.Hostname() == "" || strings.TrimRight(u.Path, "/") != wire.PathLogs:
		return "", nil, errors.New("it must end with " + wire.PathLogs + " right behind the host")
	}
	u.Path = wire.PathLogs
	return u.String(), warnings, nil
}
