package provision_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lablink/internal/provision"
	"lablink/internal/testkit"
)

const stateKey = "prod/client/terraform.tfstate"

// bucket is a bucket, and a table of locks.
type bucket struct {
	t    *testing.T
	name string // the emulator has each only once, as AWS has
	moto *testkit.MotoServer
}

func (b bucket) ask(service, method, path, target, body string) (answer string) {
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
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

type lockInfo struct {
	ID        string `json:"ID"`
	Operation string `json:"Operation"`
	Info      string `json:"Info"`
	Who       string `json:"Who"`
	Version   string `json:"Version"`
	Created   string `json:"Created"`
	Path      string `json:"Path"`
}

// lock leaves the lock of a Terraform that was killed.
func (b bucket) lock(who string) {
	b.t.Helper()
	// As Terraform writes it: OpenTofu compares the text before it removes one.
	info, err := json.Marshal(lockInfo{
		"12345678-0000-4000-8000-0123456789ab", "OperationTypeApply", "", who, "1.6.0",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), b.name + "/" + stateKey,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	item, err := json.Marshal(map[string]any{
		"TableName": "lock-table", "Item": map[string]any{"LockID": map[string]string{"S": b.name + "/" + stateKey}, "Info": map[string]string{"S": string(info)}},
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
			b := bucket{t, "lab-state-" + name, testkit.Moto(t)}
			b.ask("s3", http.MethodPut, "/"+b.name, "", `<CreateBucketConfiguration><LocationConstraint>`+testkit.MotoRegion+`</LocationConstraint></CreateBucketConfiguration>`)
			b.ask("dynamodb", http.MethodPost, "/", "DynamoDB_20120810.CreateTable", `{"TableName": "lock-table", "BillingMode": "PAY_PER_REQUEST",
				"AttributeDefinitions": [{"AttributeName": "LockID", "AttributeType": "S"}], "KeySchema": [{"AttributeName": "LockID", "KeyType": "HASH"}]}`)
			module, orders := lab(t)
			w, out := workspace(t, binary, module, provision.Backend{S3: &provision.S3{
				Bucket: b.name, Region: testkit.MotoRegion, Key: stateKey, Endpoint: b.moto.URL,
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

			// Such a lock keeps no state from being saved, either.
			errored := filepath.Join(w.Dir, "errored.tfstate")
			write(t, errored, b.ask("s3", http.MethodGet, "/"+b.name+"/"+stateKey, "", ""))
			b.lock(me.Username + "@" + host)
			open(t, w)
			if exists(errored) || strings.Count(out.text(), "of a Terraform that was killed. It is removed") != 2 {
				t.Errorf("the state is still there:\n%s", out.text())
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
