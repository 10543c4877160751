package web_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

const (
	awsAccount = "123456789012"
	awsID      = "AKIAIOSFODNN7EXAMPLE"
	awsSecret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	awsToken   = "FwoGZXIvYXdzEXAMPLE"
)

// onAWS is a site whose VMs are on AWS, without credentials, and a switch that
// makes AWS refuse those that it knows.
func onAWS(t *testing.T, enter bool) (s *site, account *awsaccount.Account, refuse *atomic.Bool) {
	t.Helper()
	refuse = new(atomic.Bool)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		t.Setenv(name, "/nowhere")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	account, err := awsaccount.Open(t.Context(), awsaccount.Options{
		Region: testkit.MotoRegion,
		Endpoint: testkit.TokenService(t, func(id string) string {
			if id != awsID || refuse.Load() {
				return ""
			}
			return awsAccount
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return newSiteOn(t, account, enter, func(c *config.Config) { c.Provider = config.ProviderAWS }), account, refuse
}

const (
	entryForm  = `form[method=post][action="/api/admin/set-aws-credentials"]`
	forgetForm = `form[method=post][action="/api/admin/unset-aws-credentials"]`
)

func TestAWS(t *testing.T) {
	s, account, _ := onAWS(t, true)
	admin := s.adminBrowser()
	page := admin.get("/admin/aws").want(http.StatusOK).wantCount(`nav a[href="/admin/aws"][aria-current=page]`, 1).wantCount(forgetForm, 0)
	page.wantText("dl.facts", "none: there are no credentials").wantText("dl.facts", testkit.MotoRegion).wantText("dl.facts", account.Endpoint)
	page.wantText("#cause pre", "EC2 IMDS")
	for name, kind := range map[string]string{"aws_access_key_id": "text", "aws_secret_access_key": "password", "aws_token": "password"} {
		page.wantCount(entryForm+" input[name="+name+"][type="+kind+"][autocomplete=off]:not([value])", 1).wantCount("label[for="+name+"]", 1)
	}
	s.browser().get("/admin/aws").want(http.StatusUnauthorized)

	if _, err := account.Enter(t.Context(), awsaccount.Keys{AccessKeyID: awsID, SecretAccessKey: awsSecret, SessionToken: awsToken}); err != nil {
		t.Fatal(err)
	}
	page = admin.get("/admin/aws?done=entered").want(http.StatusOK).wantText("p.notice.good", "from now on").wantNone(awsID, awsSecret, awsToken)
	page.wantText("dl.facts", awsAccount).wantText("dl.facts", testkit.TokenServiceARN(awsAccount)).wantText("dl.facts", "entered on this page").wantCount(forgetForm, 1)
	page.wantText("main", "kept in memory only")
	admin.get("/admin/create").wantCount(`nav a[href="/admin/aws"]`, 1)

	account.Forget()
	admin.get("/admin/aws?done=forgotten").want(http.StatusOK).wantText("p.notice.good", "forgotten").wantText("dl.facts", "no credentials")
}

// What was wrong is said where it is, and nothing that was typed comes back.
func TestAWS_Refused(t *testing.T) {
	s, account, refuse := onAWS(t, true)
	typed := []string{"aws_access_key_id", awsID, "aws_secret_access_key", awsSecret, "aws_token", awsToken}
	refusal := func(e *fleet.Error, pairs ...string) *answer {
		return s.refusal(s.web.AWSRefused, "/api/admin/set-aws-credentials", e, pairs...).wantNone(awsID, awsSecret, awsToken)
	}
	for field, id := range map[string]string{"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_token": "token"} {
		page := refusal(fleet.FieldErrorf(field, "there is a space"), typed...).want(http.StatusBadRequest).wantText("#"+id+"-error", "There is a space.")
		page.wantCount(`input[name=`+field+`][aria-invalid=true][autofocus][aria-describedby~="`+id+`-error"]`, 1).wantCount("[aria-invalid]", 1)
	}
	refusal(fleet.FieldErrorf("aws_access_key_id", "it is required"), "aws_secret_access_key", awsSecret).wantText("#key-error", "Type the access key ID.")
	refusal(fleet.FieldErrorf("aws_secret_access_key", "it is required"), "aws_access_key_id", awsID).wantText("#secret-error", "Type the secret access key.")
	refusal(fleet.Errorf(fleet.Unprocessable, "AWS does not know them"), typed...).want(http.StatusUnprocessableEntity).
		wantText("p.notice.bad[role=alert]", "AWS does not know them. Nothing was changed.").wantCount(entryForm, 1)
	refusal(fleet.Errorf(fleet.Unavailable, "AWS cannot be reached"), typed...).want(http.StatusServiceUnavailable).wantCount(entryForm, 1)
	refusal(fleet.Errorf(fleet.Limited, "too often"), typed...).want(http.StatusTooManyRequests).wantCount(entryForm, 0)

	// Entered ones that AWS does not take any more.
	if _, err := account.Enter(t.Context(), awsaccount.Keys{AccessKeyID: awsID, SecretAccessKey: awsSecret}); err != nil {
		t.Fatal(err)
	}
	refuse.Store(true)
	page := s.adminBrowser().get("/admin/aws").want(http.StatusOK).wantText("p.notice.bad", "AWS does not know the access key ID")
	page.wantText("dl.facts", "not known").wantText("dl.facts", "entered on this page").wantCount(forgetForm, 1).wantNone(awsID, awsSecret)
}

// Where other servers may share the database, the page says why there is no form.
func TestAWS_Replicas(t *testing.T) {
	s, _, _ := onAWS(t, false)
	s.adminBrowser().get("/admin/aws").want(http.StatusOK).wantCount("main form", 0).wantText("main", "which other servers may share")
}

// Elsewhere there is no such page.
func TestAWS_OtherProvider(t *testing.T) {
	t.Parallel()
	s := newSite(t, makesVMs)
	s.adminBrowser().get("/admin/aws").want(http.StatusNotFound).wantCount(`a[href="/admin/aws"]`, 0)
	s.refusal(s.web.AWSRefused, "/api/admin/set-aws-credentials", fleet.Errorf(fleet.NotFound, "no AWS")).want(http.StatusNotFound)
}
