package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"lablink/internal/awsaccount"
	"lablink/internal/fleet"
)

// awsView is the page about the AWS account.
type awsView struct {
	frame
	Flash            string
	Region, Endpoint string
	Identity         awsaccount.Identity
	Trouble          string // why AWS did not say who we are
	Missing          bool   // because there are no credentials at all
	Cause            string // of that, in the words of AWS's own library
	Entered          bool   // those in force were entered here
	MayEnter         bool
	Form             awsForm
}

// sources are where credentials are from, in words.
var sources = map[string]string{
	"entered":       "entered on this page",
	"environment":   "the server’s environment",
	"shared file":   "a file of the server’s user",
	"instance role": "the role of the server’s EC2 instance",
}

// Source says where the credentials in force are from, "" if that is unknown.
func (v awsView) Source() string {
	source := v.Identity.Source
	if v.Entered {
		source = "entered" // although AWS may refuse them by now
	}
	if words := sources[source]; words != "" {
		return words
	}
	return source
}

// awsForm is its form, with what is wrong with it. What was typed is secret, and
// not shown again.
type awsForm struct {
	KeyError, SecretError, TokenError string
	Error                             string // of the whole form
}

// SecretFirst says where the cursor belongs: at the first error.
func (f awsForm) SecretFirst() bool { return f.SecretError != "" && f.KeyError == "" }

// TokenFirst is the same for the session token.
func (f awsForm) TokenFirst() bool {
	return f.TokenError != "" && f.SecretError == "" && f.KeyError == ""
}

var awsFlashes = map[string]string{
	"entered":   "These credentials are used from now on.",
	"forgotten": "The credentials that were entered are forgotten.",
}

func (w *Web) getAWS(rw http.ResponseWriter, r *http.Request) error {
	return w.awsPage(r.Context(), rw, http.StatusOK, awsFlashes[r.URL.Query().Get("done")], awsForm{})
}

func (w *Web) awsPage(ctx context.Context, rw http.ResponseWriter, status int, flash string, form awsForm) error {
	if w.aws == nil {
		return fleet.Errorf(fleet.NotFound, "This server makes no machines on AWS.")
	}
	view := awsView{
		frame: w.adminFrame("AWS", "aws"), Flash: flash, Region: w.aws.Region, Endpoint: w.aws.Endpoint,
		Entered: w.aws.Entered(), MayEnter: w.enterAWS, Form: form,
	}
	var err error
	view.Identity, err = w.aws.Identity(ctx)
	switch {
	case errors.Is(err, awsaccount.ErrNoCredentials):
		_, cause, _ := strings.Cut(err.Error(), awsaccount.ErrNoCredentials.Error())
		view.Missing, view.Cause = true, strings.Trim(cause, " ()")
	case err != nil:
		view.Trouble = sentenceOf(err.Error())
	}
	return w.page(rw, status, "admin_aws", view)
}

// AWSRefused shows the form for credentials again, with what was wrong. The form
// of r must have been read.
func (w *Web) AWSRefused(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	form := func(ctx context.Context) error {
		var form awsForm
		text := sentenceOf(e.Message)
		switch empty := strings.TrimSpace(r.PostFormValue(e.Field)) == ""; {
		case e.Field == "aws_access_key_id" && empty:
			form.KeyError = "Type the access key ID."
		case e.Field == "aws_access_key_id":
			form.KeyError = text
		case e.Field == "aws_secret_access_key" && empty:
			form.SecretError = "Type the secret access key."
		case e.Field == "aws_secret_access_key":
			form.SecretError = text
		case e.Field == "aws_token":
			form.TokenError = text
		default:
			form.Error = text + " Nothing was changed."
		}
		return w.awsPage(ctx, rw, status, "", form)
	}
	if e.Kind == fleet.Unavailable { // AWS is
		w.again(rw, r, form)
		return
	}
	w.refused(rw, r, status, e, form)
}
