package awsfleet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"lablink/internal/awsfleet"
	"lablink/internal/config"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const installation = "5d0c7c2e-0000-4000-8000-000000000001"

// site is a fleet in an emulated account.
type site struct {
	*awsfleet.Fleet

	t   *testing.T
	aws aws.Config
	ec2 *ec2.Client
}

// account is the emulated one.
type account struct{ config aws.Config }

func (a account) Config() aws.Config { return a.config }

func (account) Environ(context.Context) (map[string]string, error) {
	return map[string]string{"AWS_REGION": testkit.MotoRegion}, nil
}

func (account) ID(context.Context) (string, error) { return "123456789012", nil }

// settle is for a fleet that has no VMs yet.
func settle(_ context.Context, account string) (string, error) { return account, nil }

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	c := testkit.Moto(t).Config(t)
	f, err := awsfleet.New(awsfleet.Options{Account: account{c}, Config: settings(t, change), Installation: installation, StartScript: "echo hello\n", Settle: settle})
	if err != nil {
		t.Fatal(err)
	}
	return &site{Fleet: f, t: t, aws: c, ec2: ec2.NewFromConfig(c)}
}

// settings are a configuration for AWS.
func settings(t *testing.T, change func(*config.Config)) *config.Config {
	t.Helper()
	c, err := config.Load(config.Options{Environ: []string{
		"LABLINK_PROVIDER=aws", "LABLINK_MACHINE_IMAGE=registry.example.org/lablink-client:1", "LABLINK_MACHINE_AMI_ID=auto",
		"LABLINK_SERVER_PUBLIC_URL=https://lablink.example.org", "ENVIRONMENT=ci-test",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	return c
}

// refused checks that an error says what is wrong.
func refused(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of %v", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error: %v, want %q in it", err, w)
		}
	}
}
