package awsaccount_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/awsaccount"
	"lablink/internal/testkit"
)

// What AWS's documentation shows; nobody has them.
const (
	exampleID     = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleToken  = "FwoGZXIvYXdzEXAMPLE"
)

var example = awsaccount.Keys{AccessKeyID: exampleID, SecretAccessKey: exampleSecret, SessionToken: exampleToken}

// answering is a token service that always answers the same.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// silent is a server that takes requests and never answers.
func silent(t *testing.T) string {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(func() {
		close(over)
		server.Close()
	})
	return server.URL
}

// What AWS refuses is explained, without its words, and changes nothing.
func TestAccount_Refused(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		code    string
		words   string
		refused bool
	}{
		"unknown id":     {403, "InvalidClientTokenId", "AWS does not know the access key ID", true},
		"wrong secret":   {403, "SignatureDoesNotMatch", "the secret access key does not belong to the access key ID", true},
		"expired":        {403, "ExpiredToken", "the session token has expired", true},
		"clock":          {403, "RequestExpired", "the clock of this server is wrong", true},
		"malformed id":   {400, "IncompleteSignature", "the access key ID is none", true},
		"something new":  {403, "SomethingNew", "AWS refused the credentials (SomethingNew)", true},
		"too many calls": {400, "Throttling", "AWS has no answer right now (Throttling)", false},
		"AWS is ill":     {503, "ServiceUnavailable", "AWS has no answer right now (ServiceUnavailable)", false},
		"not AWS at all": {403, "", "is a proxy in between?", false},
	} {
		t.Run(name, func(t *testing.T) {
			body := "<html><body>Blocked " + exampleID + "</body></html>"
			if test.code != "" {
				body = fmt.Sprintf("<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>The key %s is bad: %s, %s</Message></Error></ErrorResponse>",
					test.code, exampleID, exampleSecret, exampleToken)
			}
			a := open(t, answering(t, test.status, body), nil)
			_, err := a.Enter(t.Context(), example)
			wantExplained(t, err, test.words)
			if _, refused := errors.AsType[*awsaccount.RefusedError](err); refused != test.refused {
				t.Errorf("refused: %v, want %v", refused, test.refused)
			}
			if a.Entered() {
				t.Error("they are used all the same")
			}
		})
	}
}

// wantExplained fails unless err says words and holds no key.
func wantExplained(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("error: %v, want %q", err, words)
		return
	}
	for _, hidden := range []string{exampleID, exampleSecret, exampleToken} {
		if strings.Contains(err.Error(), hidden) {
			t.Errorf("it shows %s: %v", hidden, err)
		}
	}
}

// Where AWS cannot be asked, nothing is known of the credentials, and nobody
// waits long.
func TestAccount_Unreachable(t *testing.T) {
	a := open(t, "http://127.0.0.1:1", nil)
	_, err := a.Enter(t.Context(), example)
	wantExplained(t, err, "AWS cannot be reached: dial tcp 127.0.0.1:1")

	a = open(t, silent(t), map[string]string{"AWS_ACCESS_KEY_ID": exampleID, "AWS_SECRET_ACCESS_KEY": exampleSecret})
	start := time.Now()
	_, err = a.Identity(t.Context())
	wantExplained(t, err, "AWS did not answer within 5s")
	if waited := time.Since(start); waited > 9*time.Second {
		t.Errorf("it took %v", waited)
	}
}

// metadata is an instance's metadata service, with a role or without.
func metadata(t *testing.T, role *atomic.Bool) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		fmt.Fprint(w, "token")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/", func(w http.ResponseWriter, _ *http.Request) {
		if !role.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, "lablink")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/lablink", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":%q}`,
			exampleID, exampleSecret, exampleToken, time.Now().Add(time.Hour).Format(time.RFC3339))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// A role counts as soon as the instance has it, and Terraform finds it by itself.
func TestAccount_Role(t *testing.T) {
	var role atomic.Bool
	a := open(t, testkit.TokenService(t, func(string) string { return "123456789012" }), map[string]string{"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata(t, &role)})
	if _, err := a.Environ(t.Context()); !errors.Is(err, awsaccount.ErrNoCredentials) {
		t.Errorf("without a role: %v", err)
	}
	role.Store(true)
	who, err := a.Identity(t.Context())
	want := awsaccount.Identity{Account: "123456789012", ARN: testkit.TokenServiceARN("123456789012"), Source: "instance role"}
	if err != nil || who != want {
		t.Errorf("with a role: %+v, %v", who, err)
	}
	env, err := a.Environ(t.Context())
	if _, given := env["AWS_ACCESS_KEY_ID"]; err != nil || given {
		t.Errorf("environment %v, %v", env, err)
	}
}

// On a laptop, nobody answers for an instance.
func TestAccount_NoMetadata(t *testing.T) {
	a := open(t, "http://127.0.0.1:1", map[string]string{"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": silent(t)})
	start := time.Now()
	_, err := a.Environ(t.Context())
	if waited := time.Since(start); !errors.Is(err, awsaccount.ErrNoCredentials) || waited > 4*time.Second {
		t.Errorf("after %v: %v", waited, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = a.Environ(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("for somebody who has gone: %v", err)
	}
}
