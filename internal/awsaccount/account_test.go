package awsaccount_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lablink/internal/awsaccount"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

// open returns an account whose environment is this test's alone.
func open(t *testing.T, endpoint string, environ map[string]string) *awsaccount.Account {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	for name, value := range environ {
		t.Setenv(name, value)
	}
	a, err := awsaccount.Open(t.Context(), awsaccount.Options{Region: testkit.MotoRegion, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// keys are good ones.
func keys(t *testing.T, m *testkit.MotoServer) awsaccount.Keys {
	t.Helper()
	k, err := m.Config(t).Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return awsaccount.Keys{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey}
}

// Credentials are entered, used at once, forgotten; without them those of the
// environment count.
func TestAccount_Enter(t *testing.T) {
	mine, other := testkit.Moto(t), testkit.Moto(t)
	k := keys(t, other)
	a := open(t, mine.URL, map[string]string{"AWS_ACCESS_KEY_ID": k.AccessKeyID, "AWS_SECRET_ACCESS_KEY": k.SecretAccessKey, "AWS_PROFILE": ""})
	who, err := a.Identity(t.Context())
	if err != nil || who.Account != other.Account || who.Source != "environment" || a.Entered() {
		t.Errorf("identity %+v, %v", who, err)
	}
	env, err := a.Environ(t.Context())
	want := map[string]string{"AWS_REGION": testkit.MotoRegion, "AWS_DEFAULT_REGION": testkit.MotoRegion, "AWS_ENDPOINT_URL": mine.URL}
	if err != nil || !maps.Equal(env, want) {
		t.Errorf("environment %v, %v", env, err)
	}

	k = keys(t, mine)
	who, err = a.Enter(t.Context(), k)
	if err != nil || who.Account != mine.Account || who.Source != "entered" || !a.Entered() || !strings.HasPrefix(who.ARN, "arn:aws:") {
		t.Errorf("entered: %+v, %v", who, err)
	}
	if who, err = a.Identity(t.Context()); err != nil || who.Account != mine.Account {
		t.Errorf("identity %+v, %v", who, err)
	}
	if found, err := a.Config().Credentials.Retrieve(t.Context()); err != nil || found.AccessKeyID != k.AccessKeyID {
		t.Errorf("clients get %s, %v", found.AccessKeyID, err)
	}
	env, err = a.Environ(t.Context())
	maps.Copy(want, map[string]string{
		"AWS_ACCESS_KEY_ID": k.AccessKeyID, "AWS_SECRET_ACCESS_KEY": k.SecretAccessKey, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
	})
	if err != nil || !maps.Equal(env, want) {
		t.Errorf("environment %v, %v", env, err)
	}
	a.Forget()
	if who, err = a.Identity(t.Context()); err != nil || who.Account != other.Account || a.Entered() {
		t.Errorf("forgotten: %+v, %v", who, err)
	}
}

func TestAccount_None(t *testing.T) {
	a := open(t, "http://127.0.0.1:1", nil)
	_, err := a.Environ(t.Context())
	if !errors.Is(err, awsaccount.ErrNoCredentials) || !strings.Contains(err.Error(), "enter the credentials") || !strings.Contains(err.Error(), "then retry") {
		t.Errorf("error: %v", err)
	}
	if _, err = a.Identity(t.Context()); !errors.Is(err, awsaccount.ErrNoCredentials) {
		t.Errorf("error: %v", err)
	}
}

// What AWS refuses is explained, without its words, and changes nothing.
func TestAccount_Refused(t *testing.T) {
	const id = "AKIAIOSFODNN7EXAMPLE"
	for code, words := range map[string]string{
		"InvalidClientTokenId":  "AWS does not know the access key ID",
		"SignatureDoesNotMatch": "the secret access key does not belong to the access key ID",
		"ExpiredToken":          "the session token has expired",
		"RequestExpired":        "the clock of this server is wrong",
		"SomethingNew":          "AWS refused the credentials (SomethingNew)",
	} {
		t.Run(code, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>The key %s is bad: %s</Message></Error></ErrorResponse>`, code, id, secret)
			}))
			defer server.Close()
			a := open(t, server.URL, nil)
			_, err := a.Enter(t.Context(), awsaccount.Keys{AccessKeyID: id, SecretAccessKey: secret})
			if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), id) || strings.Contains(err.Error(), secret) {
				t.Errorf("error: %v", err)
			}
			if a.Entered() {
				t.Error("they are used all the same")
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		a := open(t, "http://127.0.0.1:1", nil)
		_, err := a.Enter(t.Context(), awsaccount.Keys{AccessKeyID: id, SecretAccessKey: secret})
		if err == nil || !strings.Contains(err.Error(), "AWS cannot be reached, so that the credentials could not be tried") || a.Entered() {
			t.Errorf("error: %v", err)
		}
	})
}

// However keys are printed, they do not show.
func TestKeys_Hidden(t *testing.T) {
	k := awsaccount.Keys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret, SessionToken: secret}
	holder := struct {
		K awsaccount.Keys  `json:"k"`
		P *awsaccount.Keys `json:"p"`
	}{k, &k}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "keys", k, "pointer", &k, "in", holder)
	data, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s %q %x", k, k, k, k, k, k), fmt.Sprintf("%v %+v %#v", &k, holder, holder), log.String(), string(data),
	} {
		if strings.Contains(text, "AKIA") || strings.Contains(text, "wJal") || strings.Contains(text, fmt.Sprintf("%x", "wJal")) {
			t.Errorf("it shows: %s", text)
		}
	}
}
