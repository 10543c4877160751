package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"lablink/internal/api"
	"lablink/internal/awsaccount"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

const (
	setAWS, unsetAWS = "/api/admin/set-aws-credentials", "/api/admin/unset-aws-credentials"
	goodID, badID    = "AKIAIOSFODNN7EXAMPLE", "AKIAI44QH8DHBEXAMPLE"
	secretKey        = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// caller sends requests to the API of a server whose VMs are on AWS.
type caller struct {
	t         *testing.T
	url       string
	transport http.RoundTripper
	account   *awsaccount.Account
	asked     atomic.Int64 // how often AWS was
}

// onAWS serves the API alone to an admin, with a token service that knows goodID.
func onAWS(t *testing.T, enter bool) *caller {
	t.Helper()
	c := &caller{t: t}
	c.serve(enter, testkit.TokenService(t, func(id string) string {
		c.asked.Add(1)
		return map[string]string{goodID: "123456789012"}[id]
	}))
	return c
}

func (c *caller) serve(enter bool, endpoint string) {
	t := c.t
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	var err error
	c.account, err = awsaccount.Open(t.Context(), awsaccount.Options{Region: testkit.MotoRegion, Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), testkit.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	page := func(w http.ResponseWriter, _ *http.Request, status int, e *fleet.Error) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte("a page about " + e.Field))
	}
	mux := http.NewServeMux()
	api.New(api.Options{
		Store: st, AWS: c.account, EnterAWS: enter, AWSRefused: page, Refused: page,
		Admin: func(h http.Handler, _ httpx.ErrorWriter) http.Handler { return h },
	}).Routes(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.url, c.transport = server.URL, server.Client().Transport
}

func (c *caller) send(path, contentType, accept, body string) (status int, header http.Header, answer string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Accept", accept)
	response, err := c.transport.RoundTrip(r) // which follows no redirect
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(data)
}

// sendJSON sends an object as a program does.
func (c *caller) sendJSON(path string, fields map[string]string) (status int, answer map[string]string) {
	c.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		c.t.Fatal(err)
	}
	status, _, sent := c.send(path, asJSON, asJSON, string(body))
	if err := json.Unmarshal([]byte(sent), &answer); err != nil {
		c.t.Fatalf("%d %s: %v", status, sent, err)
	}
	return status, answer
}

func credentialsOf(id, secret, token, region string) map[string]string {
	return map[string]string{"aws_access_key_id": id, "aws_secret_access_key": secret, "aws_token": token, "aws_region": region}
}

func TestAWS_Enter(t *testing.T) {
	c := onAWS(t, true)
	status, answer := c.sendJSON(setAWS, credentialsOf(" "+goodID+"\n", secretKey, "", testkit.MotoRegion))
	arn := testkit.TokenServiceARN("123456789012")
	if status != http.StatusOK || answer["account"] != "123456789012" || answer["arn"] != arn || answer["source"] != "entered" || !c.account.Entered() {
		t.Errorf("entered: %d %v", status, answer)
	}

	// What is in force stays when AWS refuses others.
	status, answer = c.sendJSON(setAWS, credentialsOf(badID, secretKey, "", ""))
	if status != http.StatusUnprocessableEntity || !strings.Contains(answer["error"], "AWS does not know the access key ID") || strings.Contains(answer["error"], badID) {
		t.Errorf("refused: %d %v", status, answer)
	}
	if who, err := c.account.Identity(t.Context()); err != nil || who.ARN != arn {
		t.Errorf("in force: %+v, %v", who, err)
	}

	status, answer = c.sendJSON(unsetAWS, nil)
	if status != http.StatusOK || answer["message"] == "" || c.account.Entered() {
		t.Errorf("forgotten: %d %v", status, answer)
	}

	// A browser is sent on, and a program that sends a form is not.
	form := url.Values{"aws_access_key_id": {goodID}, "aws_secret_access_key": {secretKey + " "}}.Encode()
	if status, header, _ := c.send(setAWS, asForm, "text/html", form); status != http.StatusSeeOther || header.Get("Location") != "/admin/aws?done=entered" {
		t.Errorf("browser: %d %v", status, header)
	}
	if status, _, sent := c.send(setAWS, asForm, asJSON, form); status != http.StatusOK || !strings.Contains(sent, `"source":"entered"`) {
		t.Errorf("a program's form: %d %s", status, sent)
	}
	if status, header, _ := c.send(unsetAWS, asForm, "text/html", ""); status != http.StatusSeeOther || header.Get("Location") != "/admin/aws?done=forgotten" {
		t.Errorf("browser: %d %v", status, header)
	}
}

// What is wrong by itself is not shown to AWS.
func TestAWS_Wrong(t *testing.T) {
	c := onAWS(t, true)
	for name, test := range map[string]struct {
		sent  map[string]string
		field string
	}{
		"no id":             {credentialsOf(" ", secretKey, "", ""), "aws_access_key_id"},
		"no secret":         {credentialsOf(goodID, "\n", "", ""), "aws_secret_access_key"},
		"a line too much":   {credentialsOf(goodID, "wJalrXUtnFEMI\nK7MDENG", "", ""), "aws_secret_access_key"},
		"another character": {credentialsOf("АKIAIOSFODNN7EXAMPLE", secretKey, "", ""), "aws_access_key_id"}, // the first is Cyrillic
		"a space":           {credentialsOf(goodID, secretKey, "FwoG ZXIv", ""), "aws_token"},
		"much too long":     {credentialsOf(goodID, secretKey, strings.Repeat("x", 9000), ""), "aws_token"},
		"another region":    {credentialsOf(goodID, secretKey, "", "mars-1"), "aws_region"},
	} {
		status, answer := c.sendJSON(setAWS, test.sent)
		if status != http.StatusBadRequest || answer["field"] != test.field || answer["error"] == "" || strings.Contains(answer["error"], "wJal") {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	form := url.Values{"aws_secret_access_key": {secretKey}}.Encode()
	if status, _, page := c.send(setAWS, asForm, "text/html", form); status != http.StatusBadRequest || page != "a page about aws_access_key_id" {
		t.Errorf("browser: %d %s", status, page)
	}
	if status, _, _ := c.send(setAWS, "text/plain", "text/html", "x"); status != http.StatusUnsupportedMediaType {
		t.Errorf("text: %d", status)
	}
	if n := c.asked.Load(); n != 0 || c.account.Entered() {
		t.Errorf("AWS was asked %d times", n)
	}
}

// Nobody makes this server ask AWS all day.
func TestAWS_Limit(t *testing.T) {
	c := onAWS(t, true)
	for n := range 30 {
		status, answer := c.sendJSON(setAWS, credentialsOf(badID, secretKey, "", ""))
		switch {
		case status == http.StatusUnprocessableEntity && n < 29:
			continue
		case status != http.StatusTooManyRequests || n < 10:
			t.Errorf("attempt %d: %d %v", n, status, answer)
		}
		break
	}
	if status, _ := c.sendJSON(unsetAWS, nil); status != http.StatusOK {
		t.Errorf("forgotten: %d", status)
	}
}

// AWS that cannot be reached says nothing about credentials.
func TestAWS_Unreachable(t *testing.T) {
	c := &caller{t: t}
	c.serve(true, "http://127.0.0.1:1")
	status, answer := c.sendJSON(setAWS, credentialsOf(goodID, secretKey, "", ""))
	if status != http.StatusServiceUnavailable || !strings.Contains(answer["error"], "AWS cannot be reached") {
		t.Errorf("%d %v", status, answer)
	}
}

func TestAWS_NotHere(t *testing.T) {
	c := onAWS(t, false)
	for _, path := range []string{setAWS, unsetAWS} {
		status, answer := c.sendJSON(path, credentialsOf(goodID, secretKey, "", ""))
		if status != http.StatusConflict || !strings.Contains(answer["error"], "other servers may share") {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	if c.asked.Load() != 0 || c.account.Entered() {
		t.Error("they are used")
	}
}
