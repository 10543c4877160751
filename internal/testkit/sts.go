package testkit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
)

// signedBy finds the access key ID in the signature of a request to AWS.
var signedBy = regexp.MustCompile(`Credential=([^/]+)/`)

// TokenService is AWS's token service alone, and returns its URL. accountOf says
// whose an access key ID is, "" if it is nobody's: moto takes any. Nobody looks at
// the secret.
func TokenService(t testing.TB, accountOf func(accessKeyID string) string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		account := ""
		if signature := signedBy.FindStringSubmatch(r.Header.Get("Authorization")); signature != nil {
			account = accountOf(signature[1])
		}
		if account == "" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>`+
				`<Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
			`<Arn>%s</Arn><UserId>AIDA</UserId><Account>%s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, TokenServiceARN(account), account)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TokenServiceARN is for whom a TokenService takes the owner of an account's access key.
func TokenServiceARN(account string) string { return "arn:aws:iam::" + account + ":user/organiser" }
