package awsfleet_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ssh"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// publicKey is one whose private key nobody has.
func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key)))
}

// process starts the program itself as an allocator, and returns what kills it.
func (l *lab) process(databaseURL, sshKey string) (kill func()) {
	l.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(l.t.Context()), testkit.Program(l.t), "serve", "--listen", "127.0.0.1:0", "--data-dir", l.dataDir, "--database-url", databaseURL)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LABLINK_ADMIN_PASSWORD=" + testkit.AdminPassword,
		"LABLINK_PROVIDER=aws", "ENVIRONMENT=ci-test", "LABLINK_APP_REGION=" + testkit.MotoRegion, "LABLINK_AWS_ENDPOINT=" + l.moto.URL,
		"LABLINK_MACHINE_IMAGE=registry.example.org/lablink-client:1", "LABLINK_MACHINE_AMI_ID=auto",
		"LABLINK_SERVER_PUBLIC_URL=https://lablink.example.org", "LABLINK_PROVISION_TERRAFORM=" + l.terraform(),
		"LABLINK_AWS_ELASTIC_IPS=true", "LABLINK_AWS_SSH_PUBLIC_KEY=" + sshKey,
	}, l.moto.Environ()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	kill = func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	}
	l.t.Cleanup(func() {
		kill()
		if l.t.Failed() {
			l.t.Logf("log of the first server:\n%s", out.String())
		}
	})
	return kill
}

// The server is killed while AWS has made something of which Terraform does not
// know yet. The next server makes no second one, and the fleet is what was asked
// for.
func TestAWS_Killed(t *testing.T) {
	t.Parallel()
	const env = "ci-test"
	key := publicKey(t)
	for _, thing := range []string{
		"aws_instance-lablink-client-2", "aws_eip-lablink-client-1", "aws_security_group-lablink_client_" + env + "_sg",
	} {
		t.Run(thing, func(t *testing.T) {
			t.Parallel()
			l := &lab{t: t, moto: testkit.Moto(t), dataDir: t.TempDir()}
			l.provider = testkit.AWSProvider(t, l.moto)
			l.ec2 = ec2.NewFromConfig(l.moto.Config(t))
			databaseURL := testkit.DB(t)
			s, err := store.Open(t.Context(), databaseURL)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			op, err := s.Launch(t.Context(), fleet.Actor{Kind: "admin"}, store.Launch{
				Provider: string(config.ProviderAWS), Prefix: "lablink-client-", InstanceType: "t3.large", Count: 3, Most: 10,
			})
			if err != nil {
				t.Fatal(err)
			}
			l.provider.Hold(thing)
			kill := l.process(databaseURL, key)
			l.provider.Reached(thing)
			kill()
			dataDir := l.dataDir
			l.serve(databaseURL, func(c *config.Config) {
				c.DataDir, l.dataDir = dataDir, dataDir // what is left of the first one's Terraform is found by it
				c.AWS.ElasticIPs, c.AWS.SSHPublicKey = true, key
			})
			l.ends(testkit.Operation{ID: op.ID}, "succeeded")
			for hostname, m := range l.has(1, 2, 3) {
				if l.id(hostname) != *m[0].InstanceId {
					t.Errorf("the row of %s knows %q, it is %s", hostname, l.id(hostname), *m[0].InstanceId)
				}
			}
			addresses, err := l.ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
			if err != nil || len(addresses.Addresses) != 3 {
				t.Errorf("%d Elastic IPs, %v", len(addresses.Addresses), err)
			}
			var made []string
			for _, line := range l.provider.Log() {
				if line == "create "+strings.Replace(thing, "-", " ", 1) {
					made = append(made, line)
				}
			}
			if len(made) != 1 {
				t.Errorf("%s was made %d times", thing, len(made))
			}
			l.ends(l.DestroyAll(3), "succeeded")
			l.has()
			if left, err := filepath.Glob(filepath.Join(dataDir, "terraform", "aws", "*.tfvars*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// Terraform's state is lost as a whole. The next launch takes up everything that
// there is, and makes only what is new.
func TestAWS_StateLost(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.AWS.ElasticIPs, c.AWS.SSHPublicKey = true, publicKey(t) })
	l.ends(l.Launch(2), "succeeded")
	before := l.has(1, 2)
	made := len(l.provider.Log())
	conn, err := pgx.Connect(t.Context(), l.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // only used here
	if _, err := conn.Exec(t.Context(), `DROP SCHEMA terraform_aws CASCADE`); err != nil {
		t.Fatal(err)
	}
	// An address that was never given to its machine is of no use any more.
	installation, err := l.Store.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	(&site{t: t, ec2: l.ec2}).address(installation, "lablink-client-2")

	l.ends(l.Launch(1), "succeeded")
	after := l.has(1, 2, 3)
	for hostname, was := range before {
		if *after[hostname][0].InstanceId != *was[0].InstanceId {
			t.Errorf("%s is another machine", hostname)
		}
	}
	for _, line := range l.provider.Log()[made:] {
		if (strings.HasPrefix(line, "create") || strings.HasPrefix(line, "delete")) && !strings.HasSuffix(line, " lablink-client-3") {
			t.Errorf("it did this: %s", line)
		}
	}
	l.ends(l.DestroyAll(3), "succeeded")
	l.has()
	addresses, err := l.ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
	if err != nil || len(addresses.Addresses) > 0 {
		t.Errorf("%d Elastic IPs are left, %v", len(addresses.Addresses), err)
	}
}
