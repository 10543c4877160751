package awsaccount_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"lablink/internal/awsaccount"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// open returns an account whose environment is this test's alone.
func open(t *testing.T, endpoint string, environ map[string]string) *awsaccount.Account {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "AWS_CONFIG_FILE": "/nowhere", "AWS_DEFAULT_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
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
	a := open(t, mine.URL, map[string]string{"AWS_ACCESS_KEY_ID": k.AccessKeyID, "AWS_SECRET_ACCESS_KEY": k.SecretAccessKey})
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
		"AWS_ACCESS_KEY_ID": k.AccessKeyID, "AWS_SECRET_ACCESS_KEY": k.SecretAccessKey, "AWS_SESSION_TOKEN": "",
		"AWS_PROFILE": "", "AWS_DEFAULT_PROFILE": "",
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

// However keys are printed, alone or in something else, they do not show.
func TestKeys_Hidden(t *testing.T) {
	moto := testkit.Moto(t)
	k := keys(t, moto)
	k.SessionToken = "FwoGZXIvYXdzEXAMPLE"
	a := open(t, moto.URL, map[string]string{"AWS_ACCESS_KEY_ID": exampleID, "AWS_SECRET_ACCESS_KEY": exampleSecret})
	if _, err := a.Enter(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	holder := struct {
		K awsaccount.Keys            `json:"k"`
		P *awsaccount.Keys           `json:"p"`
		L []awsaccount.Keys          `json:"l"`
		M map[string]awsaccount.Keys `json:"m"`
	}{k, &k, []awsaccount.Keys{k}, map[string]awsaccount.Keys{"k": k}}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(handler).Info("x", "keys", k, "pointer", &k, "in", holder, "account", a)
	}
	data, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{log.String(), string(data), fmt.Sprint(k, &k, holder, a), k.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		for _, value := range []any{k, &k, holder, &holder, a, []any{a}} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
	}
	for _, text := range texts {
		for _, hidden := range []string{k.AccessKeyID, k.SecretAccessKey, k.SessionToken, exampleID, exampleSecret} {
			if strings.Contains(text, hidden) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", hidden)) {
				t.Errorf("it shows: %s", text)
			}
		}
	}
}
