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
	Entered          bool   // those in force were entered here
	MayEnter         bool
	Form             awsForm
}

// SourceWords says where the credentials in force are from.
func (v awsView) SourceWords() string {
	switch v.Identity.Source {
	case "entered":
		return "entered on this page"
	case "environment":
		return "the server's environment"
	case "shared file":
		return "a file of the server's user"
	case "instance role":
		return "the role of the server's EC2 instance"
	default:
		return v.Identity.Source
	}
}

// awsForm is its form, with what is wrong with it. What was typed is secret, and
// not shown again.
type awsForm struct {
	KeyError, SecretError, Error string
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
		return fleet.Errorf(fleet.NotFound, "this server makes no machines on AWS")
	}
	view := awsView{
		frame: w.adminFrame("AWS", "aws"), Flash: flash, Region: w.aws.Region, Endpoint: w.aws.Endpoint,
		Entered: w.aws.Entered(), MayEnter: w.enterAWS, Form: form,
	}
	var err error
	if view.Identity, err = w.aws.Identity(ctx); err != nil {
		view.Missing, view.Trouble = errors.Is(err, awsaccount.ErrNoCredentials), sentenceOf(err.Error())
	}
	return w.page(rw, status, "admin_aws", view)
}

// AWSRefused shows the form for credentials again, with what was wrong.
func (w *Web) AWSRefused(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	w.refused(rw, r, status, e, func(ctx context.Context) error {
		form, text := awsForm{}, sentenceOf(strings.TrimSuffix(e.Message, "."))
		switch e.Field {
		case "aws_access_key_id":
			form.KeyError = "Type the access key ID."
		case "aws_secret_access_key":
			form.SecretError = "Type the secret access key."
		default:
			form.Error = text
		}
		return w.awsPage(ctx, rw, status, "", form)
	})
}
