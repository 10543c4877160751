package config

import (
	"fmt"
	"log/slog"
)

// redacted is what every Secret prints as, whatever its value.
const redacted = "[redacted]"

// Secret is text that must not be seen: a password, a PIN, a token, a URL that may hold a password. It prints as
// "[redacted]" through fmt, log/slog and encoding/json, even inside a struct. An empty Secret prints the same, so
// that a log does not tell whether one is set; compare with "" to find out.
type Secret string

// Reveal returns the value itself. Call it only where the value is used.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb, such as %x or %q, shows the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler; encoding/json and YAML encoders use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
