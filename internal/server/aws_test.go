package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/testkit"
)

// onAWS is an allocator that makes its machines in an emulated AWS, without
// credentials.
func onAWS(t *testing.T, o testkit.ServeOptions) (*testkit.Allocator, *testkit.MotoServer, awsaccount.Keys) {
	t.Helper()
	moto := testkit.Moto(t)
	o.Configure = func(c *config.Config) {
		c.Provider, c.App.Region, c.AWS.Endpoint = config.ProviderAWS, testkit.MotoRegion, moto.URL
		c.Machine.Image, c.Server.PublicURL = "registry.example.org/lablink-client:1", "http://lablink.example.org"
	}
	account, err := awsaccount.Open(t.Context(), awsaccount.Options{Region: testkit.MotoRegion, Endpoint: moto.URL})
	if err != nil {
		t.Fatal(err)
	}
	o.Adjust = func(s *server.Server) { s.AWS = account }
	keys, err := moto.Config(t).Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return testkit.Serve(t, o), moto, awsaccount.Keys{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey}
}

const (
	setAWS, unsetAWS = "/api/admin/set-aws-credentials", "/api/admin/unset-aws-credentials"
	notThere         = "AKIAIOSFODNN7EXAMPLE"
)

func TestAWSCredentials(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	a, moto, keys := onAWS(t, testkit.ServeOptions{Private: true})
	page := func() string {
		t.Helper()
		r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin/aws", Admin: true})
		if r.Status != http.StatusOK {
			t.Fatalf("page: %d %s", r.Status, r.Body)
		}
		return r.Body
	}
	if text := page(); !strings.Contains(text, "there are no credentials") || !strings.Contains(text, `name="aws_secret_access_key"`) || !strings.Contains(text, `aria-current="page">AWS`) {
		t.Errorf("page without credentials: %s", text)
	}
	if r := a.Do(t.Context(), testkit.Request{Path: setAWS, JSON: map[string]string{}}); r.Status != http.StatusUnauthorized {
		t.Errorf("a stranger got %d", r.Status)
	}

	// What is missing or wrong is said, and changes nothing.
	for name, test := range map[string]struct {
		body   map[string]string
		status int
		words  string
	}{
		"no id":        {map[string]string{"aws_access_key_id": "  ", "aws_secret_access_key": "x"}, http.StatusBadRequest, `"field":"aws_access_key_id"`},
		"no secret":    {map[string]string{"aws_access_key_id": notThere}, http.StatusBadRequest, `"field":"aws_secret_access_key"`},
		"other region": {map[string]string{"aws_access_key_id": notThere, "aws_secret_access_key": "x", "aws_region": "mars-1"}, http.StatusBadRequest, `"field":"aws_region"`},
	} {
		if r := a.Do(t.Context(), testkit.Request{Path: setAWS, Admin: true, JSON: test.body}); r.Status != test.status || !strings.Contains(r.Body, test.words) {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
	}
	form := url.Values{"aws_access_key_id": {""}, "aws_secret_access_key": {keys.SecretAccessKey}}
	r := a.Do(t.Context(), testkit.Request{Path: setAWS, Admin: true, Form: form.Encode()})
	if r.Status != http.StatusBadRequest || !strings.Contains(r.Body, "Type the access key ID.") || strings.Contains(r.Body, keys.SecretAccessKey) {
		t.Errorf("the form comes back: %d %s", r.Status, r.Body)
	}

	// A browser goes on to the page, a program gets the identity.
	form.Set("aws_access_key_id", " "+keys.AccessKeyID+"\n")
	if r = a.Do(t.Context(), testkit.Request{Path: setAWS, Admin: true, Form: form.Encode()}); r.Status != http.StatusSeeOther || r.Header.Get("Location") != "/admin/aws?done=entered" {
		t.Errorf("entered: %d %s", r.Status, r.Body)
	}
	if text := page(); !strings.Contains(text, moto.Account) || !strings.Contains(text, "entered on this page") || !strings.Contains(text, unsetAWS) {
		t.Errorf("page with credentials: %s", text)
	}
	r = a.Do(t.Context(), testkit.Request{Path: setAWS, Admin: true, JSON: map[string]string{
		"aws_access_key_id": keys.AccessKeyID, "aws_secret_access_key": keys.SecretAccessKey, "aws_region": testkit.MotoRegion,
	}})
	if r.Status != http.StatusOK || !strings.Contains(r.Body, `"account":"`+moto.Account+`"`) || !strings.Contains(r.Body, `"source":"entered"`) {
		t.Errorf("a program got %d %s", r.Status, r.Body)
	}
	if r = a.Do(t.Context(), testkit.Request{Path: unsetAWS, Admin: true, JSON: map[string]string{}}); r.Status != http.StatusOK {
		t.Errorf("forgotten: %d %s", r.Status, r.Body)
	}
	if text := page(); !strings.Contains(text, "there are no credentials") {
		t.Errorf("page after that: %s", text)
	}
	log := a.Log.String()
	if !strings.Contains(log, "AWS credentials entered") || strings.Contains(log, keys.SecretAccessKey) {
		t.Errorf("log: %s", log)
	}
}

// Several servers may share an external database, and would not know.
func TestAWSCredentials_Replicas(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	a, _, keys := onAWS(t, testkit.ServeOptions{})
	r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin/aws", Admin: true})
	if r.Status != http.StatusOK || strings.Contains(r.Body, "aws_secret_access_key") || !strings.Contains(r.Body, "they would not know of the credentials") {
		t.Errorf("page: %d %s", r.Status, r.Body)
	}
	for _, path := range []string{setAWS, unsetAWS} {
		r = a.Do(t.Context(), testkit.Request{Path: path, Admin: true, JSON: map[string]string{
			"aws_access_key_id": keys.AccessKeyID, "aws_secret_access_key": keys.SecretAccessKey,
		}})
		if r.Status != http.StatusConflict || !strings.Contains(r.Body, "instance role") {
			t.Errorf("%s: %d %s", path, r.Status, r.Body)
		}
	}
}

// Elsewhere there is no such page.
func TestAWSCredentials_OtherProvider(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	if r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin/aws", Admin: true}); r.Status != http.StatusNotFound {
		t.Errorf("page: %d", r.Status)
	}
	if r := a.Do(t.Context(), testkit.Request{Path: setAWS, Admin: true, JSON: map[string]string{}}); r.Status != http.StatusNotFound || !strings.Contains(r.Body, "provider: aws") {
		t.Errorf("API: %d %s", r.Status, r.Body)
	}
	if r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin", Admin: true}); strings.Contains(r.Body, "/admin/aws") {
		t.Error("the menu leads there")
	}
}
