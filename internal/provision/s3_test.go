package provision_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lablink/internal/provision"
	"lablink/internal/testkit"
)

const lockPath = "lab-state/prod/client/terraform.tfstate"

// bucket is a bucket, and a table of locks.
type bucket struct {
	t    *testing.T
	moto *testkit.MotoServer
}

func (b bucket) ask(service, method, path, target, body string) {
	b.t.Helper()
	cfg := b.moto.Config(b.t)
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.moto.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
		req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	}
	keys, err := cfg.Credentials.Retrieve(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(b.t.Context(), keys, req, hex.EncodeToString(hash[:]), service, cfg.Region, time.Now()); err != nil {
		b.t.Fatal(err)
	}
	resp, err := cfg.HTTPClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %s", method, path+target, resp.Status)
	}
}

// lock leaves the lock of a Terraform that was killed.
func (b bucket) lock(who string) {
	b.t.Helper()
	info, err := json.Marshal(map[string]string{
		"ID": "12345678-0000-4000-8000-0123456789ab", "Operation": "OperationTypeApply", "Info": "", "Who": who, "Version": "1.6.0",
		"Created": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), "Path": lockPath,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	item, err := json.Marshal(map[string]any{
		"TableName": "lock-table", "Item": map[string]any{"LockID": map[string]string{"S": lockPath}, "Info": map[string]string{"S": string(info)}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.ask("dynamodb", http.MethodPost, "/", "DynamoDB_20120810.PutItem", string(item))
}

// A state in a bucket, with the names of the Python system, and its locks.
func TestS3(t *testing.T) {
	t.Parallel()
	for name, binary := range engines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bucket{t, testkit.Moto(t)}
			b.ask("s3", http.MethodPut, "/lab-state", "", `<CreateBucketConfiguration><LocationConstraint>`+testkit.MotoRegion+`</LocationConstraint></CreateBucketConfiguration>`)
			b.ask("dynamodb", http.MethodPost, "/", "DynamoDB_20120810.CreateTable", `{"TableName": "lock-table", "BillingMode": "PAY_PER_REQUEST",
				"AttributeDefinitions": [{"AttributeName": "LockID", "AttributeType": "S"}], "KeySchema": [{"AttributeName": "LockID", "KeyType": "HASH"}]}`)
			module, orders := lab(t)
			w, out := workspace(t, binary, module, provision.Backend{S3: &provision.S3{
				Bucket: "lab-state", Region: testkit.MotoRegion, Key: "prod/client/terraform.tfstate", Endpoint: b.moto.URL,
			}})
			w.Provider.Inputs["orders"] = orders
			w.Provider.Cloud = credentials{b.moto}
			open(t, w)
			if e, _ := apply(t, w, plan(t, w, 1)); e.String() != "vm-1: begun created" {
				t.Fatalf("events: %s\n%s", e, out.text())
			}

			me, err := user.Current()
			if err != nil {
				t.Fatal(err)
			}
			host, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			b.lock(me.Username + "@" + host)
			if p := plan(t, w, 1, 2); p.Creates("vm-1") || !p.Creates("vm-2") || !strings.Contains(out.text(), "of a Terraform that was killed. It is removed") {
				t.Errorf("plan %+v\n%s", p, out.text())
			}

			// Somebody else's is waited for, and stays.
			b.lock("somebody@elsewhere")
			w.Grace = -lockWait
			vms, tokens := want(1, 2)
			_, err = w.Plan(t.Context(), vms, tokens, isVM)
			if failure, ok := errors.AsType[*provision.ApplyError](err); !ok || !strings.Contains(failure.General, "somebody@elsewhere") {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// lockWait is how long a lock is waited for beyond the grace.
const lockWait = 30 * time.Second

// credentials are all that a state in a bucket needs of a cloud.
type credentials struct{ moto *testkit.MotoServer }

var errNotAsked = errors.New("nobody asks for this")

func (c credentials) Prepare(context.Context) (environ map[string]string, inputs map[string]any, err error) {
	environ = map[string]string{}
	for _, entry := range c.moto.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		environ[name] = value
	}
	return environ, nil, nil
}

func (credentials) Places(context.Context, string) ([]provision.VM, error) { return nil, errNotAsked }
func (credentials) Full(string) (here, everywhere bool)                    { return false, false }
func (credentials) Inventory(context.Context) ([]provision.Thing, error)   { return nil, errNotAsked }
func (credentials) End(context.Context, provision.Thing) error             { return errNotAsked }
