package awsaccount

import (
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	sourceEntered = "entered"
	redacted      = "[redacted]"
)

// Keys are credentials. However they are printed, they do not show, unless by fmt
// in an unexported field of something else, where it asks no type.
type Keys struct {
	AccessKeyID, SecretAccessKey string
	SessionToken                 string // of temporary ones
}

func (k Keys) credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken, Source: sourceEntered}
}

// String implements fmt.Stringer.
func (Keys) String() string { return redacted }

// Format implements fmt.Formatter, so that no verb shows them.
func (Keys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) } // as fmt's own

// LogValue implements slog.LogValuer.
func (Keys) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON.
func (Keys) MarshalText() ([]byte, error) { return []byte(redacted), nil }
