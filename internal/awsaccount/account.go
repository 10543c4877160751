// Package awsaccount is the AWS account as the allocator uses it: the credentials
// that are in force, and for whom AWS takes whoever has them. Those that an admin
// enters are kept in memory only.
package awsaccount

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// askWithin is how long AWS may take to say who we are, or the instance's
	// metadata service to give credentials: a laptop has none, and nobody answers.
	askWithin = 5 * time.Second
	// attempts are few, because a person waits.
	attempts = 2
)

// ErrNoCredentials means that AWS cannot be asked anything.
var ErrNoCredentials = errors.New("there are no AWS credentials: enter the credentials on the page AWS (/admin/aws), " +
	"or give the server an instance role or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; then retry")

// Options say which account it is.
type Options struct {
	Region   string
	Endpoint string // URL of an emulator of all services; "" = AWS itself
}

// Identity is for whom AWS takes us.
type Identity struct {
	Account string // 12 digits
	ARN     string
	Source  string // of the credentials: "entered", "environment", "shared file", "instance role" or the SDK's own name
}

// Account is the AWS account. It is safe for concurrent use.
type Account struct {
	Options
	base aws.Config // with the credentials that the SDK finds by itself

	mu      sync.Mutex
	entered *Keys // nil: none
}

// Format implements fmt.Formatter: the SDK's own configuration may hold secrets of
// the environment, and fmt would print them.
func (a *Account) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "AWS in %s", a.Region) }

// Open finds out where the credentials come from, unless some are entered later.
// It asks nobody for them yet.
func Open(ctx context.Context, o Options) (*Account, error) {
	// AWS is asked a few times for each operation, and then not for days.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	base, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.Region), config.WithHTTPClient(client),
		config.WithEC2RoleCredentialOptions(func(role *ec2rolecreds.Options) { role.Client = metadata(client) }))
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if o.Endpoint != "" {
		base.BaseEndpoint = aws.String(o.Endpoint)
	}
	return &Account{Options: o, base: base}, nil
}

// metadata asks the instance's metadata service, once and briefly, as the AWS
// command line does: elsewhere than on EC2 nobody answers.
func metadata(client *awshttp.BuildableClient) *imds.Client {
	return imds.New(imds.Options{
		HTTPClient: client.WithTimeout(time.Second), Retryer: aws.NopRetryer{}, EnableFallback: aws.FalseTernary,
	})
}

// Config is for clients of AWS's services. They follow what is entered and
// forgotten later.
func (a *Account) Config() aws.Config {
	c := a.base.Copy()
	c.Credentials = a
	return c
}

// Retrieve returns the credentials in force. It implements
// [aws.CredentialsProvider].
func (a *Account) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if k := a.keys(); k != nil {
		return k.credentials(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	found, err := a.base.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("%w (%w)", ErrNoCredentials, err)
	}
	return found, nil
}

func (a *Account) keys() *Keys {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entered
}

// Entered reports whether credentials that were entered are in force.
func (a *Account) Entered() bool { return a.keys() != nil }

// Enter asks AWS who has these keys, and uses them from then on. If AWS refuses
// them, which is a [RefusedError], or cannot be asked, what was in force stays.
func (a *Account) Enter(ctx context.Context, k Keys) (Identity, error) {
	c := a.base.Copy()
	c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return k.credentials(), nil })
	who, err := identity(ctx, c)
	if err != nil {
		return Identity{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entered = &k
	return who, nil
}

// Forget forgets the keys that were entered.
func (a *Account) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entered = nil
}

// ID asks AWS which account it is.
func (a *Account) ID(ctx context.Context) (string, error) {
	who, err := a.Identity(ctx)
	return who.Account, err
}

// Identity asks AWS for whom it takes us now.
func (a *Account) Identity(ctx context.Context) (Identity, error) { return identity(ctx, a.Config()) }

func identity(ctx context.Context, c aws.Config) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	found, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		return Identity{}, err
	}
	client := sts.NewFromConfig(c, func(o *sts.Options) { o.Retryer = retry.AddWithMaxAttempts(retry.NewStandard(), attempts) })
	out, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return Identity{}, explain(err)
	}
	return Identity{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn), Source: sourceOf(found.Source)}, nil
}

// sources are the SDK's names for where it found credentials.
var sources = []struct{ prefix, name string }{
	{sourceEntered, sourceEntered},
	{"EnvConfigCredentials", "environment"},
	{"SharedConfigCredentials", "shared file"},
	{"EC2RoleProvider", "instance role"},
}

func sourceOf(sdk string) string {
	for _, s := range sources {
		if strings.HasPrefix(sdk, s.prefix) {
			return s.name
		}
	}
	return sdk
}

// Environ returns the variables by which Terraform gets to the same account, in
// place of those of the same names. It fails if there are no credentials; whether
// those that there are will do, only AWS knows.
func (a *Account) Environ(ctx context.Context) (map[string]string, error) {
	env := map[string]string{"AWS_REGION": a.Region, "AWS_DEFAULT_REGION": a.Region}
	if a.Endpoint != "" {
		env["AWS_ENDPOINT_URL"] = a.Endpoint
	}
	k := a.keys()
	if k == nil {
		// Terraform finds them as we do, and renews those of a role by itself.
		_, err := a.Retrieve(ctx)
		return env, err
	}
	env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"] = k.AccessKeyID, k.SecretAccessKey, k.SessionToken
	env["AWS_PROFILE"], env["AWS_DEFAULT_PROFILE"] = "", "" // would choose others
	return env, nil
}
