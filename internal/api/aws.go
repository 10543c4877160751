package api

import (
	"errors"
	"net/http"
	"strings"

	"lablink/internal/awsaccount"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// awsPage is where a browser goes on.
const awsPage = "/admin/aws"

// attemptsPerMinute bounds how often AWS is asked whether keys are good.
const attemptsPerMinute = 20

// maxCredential is more than AWS's longest session token, in bytes.
const maxCredential = 8192

// credentials is the JSON of AWS credentials. A form has the same fields.
type credentials struct {
	AccessKeyID     string `json:"aws_access_key_id"`
	SecretAccessKey string `json:"aws_secret_access_key"`
	Token           string `json:"aws_token"`
	Region          string `json:"aws_region"`
}

// identity is the JSON of for whom AWS takes LabLink.
type identity struct {
	Account string `json:"account"`
	ARN     string `json:"arn"`
	Source  string `json:"source"`
}

// mayEnter refuses credentials where they cannot be entered.
func (a *API) mayEnter() error {
	switch {
	case a.AWS == nil:
		return fleet.Errorf(fleet.NotFound, "this server makes no machines on AWS: its configuration does not say provider: aws")
	case !a.EnterAWS:
		return fleet.Errorf(fleet.Conflict, "AWS credentials cannot be entered here, because other servers may share this one's database, and would not know of them: "+
			"give each server an instance role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return nil
}

func readCredentials(r *http.Request) (c credentials, err error) {
	if sentJSON(r) {
		err = httpx.ReadJSON(r, &c)
	} else {
		err = needForm(r)
		c = credentials{
			r.PostFormValue("aws_access_key_id"), r.PostFormValue("aws_secret_access_key"), r.PostFormValue("aws_token"), r.PostFormValue("aws_region"),
		}
	}
	for _, text := range []*string{&c.AccessKeyID, &c.SecretAccessKey, &c.Token, &c.Region} {
		*text = strings.TrimSpace(*text)
	}
	return c, err
}

// check finds what AWS need not be asked about. It shows nothing of what was sent.
func (c credentials) check(region string) error {
	for _, part := range []struct {
		field, value string
		optional     bool
	}{{"aws_access_key_id", c.AccessKeyID, false}, {"aws_secret_access_key", c.SecretAccessKey, false}, {"aws_token", c.Token, true}} {
		switch {
		case part.value == "" && !part.optional:
			return fleet.FieldErrorf(part.field, "%s is required", part.field)
		case strings.ContainsFunc(part.value, func(r rune) bool { return r <= ' ' || r > '~' }):
			return fleet.FieldErrorf(part.field, "there is a space, or another character that AWS does not use: copy it again")
		case len(part.value) > maxCredential:
			return fleet.FieldErrorf(part.field, "it is too long: copy it again")
		}
	}
	if c.Region != "" && c.Region != region {
		return fleet.FieldErrorf("aws_region", "the region is %s, as app.region has it, and not %q", region, clip(c.Region))
	}
	return nil
}

func (a *API) setAWSCredentials(w http.ResponseWriter, r *http.Request) error {
	if err := a.mayEnter(); err != nil {
		return err
	}
	c, err := readCredentials(r)
	if err == nil {
		err = c.check(a.AWS.Region)
	}
	if err != nil {
		return err
	}
	if retry, ok := a.awsAttempts.Allow(""); !ok {
		return &fleet.Error{Kind: fleet.Limited, RetryAfter: retry, Message: "AWS was asked too often whether credentials are good"}
	}
	who, err := a.AWS.Enter(r.Context(), awsaccount.Keys{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token})
	actor := httpx.ActorOf(r, "admin")
	if err != nil {
		httpx.Logger(r.Context()).Info("AWS credentials not taken", "address", actor.Address, "error", err)
		kind := fleet.Unavailable
		if _, refused := errors.AsType[*awsaccount.RefusedError](err); refused {
			kind = fleet.Unprocessable
		}
		return fleet.Errorf(kind, "%v", err)
	}
	httpx.Logger(r.Context()).Info("AWS credentials entered", "address", actor.Address, "account", who.Account, "arn", who.ARN)
	return a.answerAWS(w, r, "entered", identity{who.Account, who.ARN, who.Source})
}

func (a *API) unsetAWSCredentials(w http.ResponseWriter, r *http.Request) error {
	if err := a.mayEnter(); err != nil {
		return err
	}
	a.AWS.Forget()
	httpx.Logger(r.Context()).Info("AWS credentials forgotten", "address", httpx.ActorOf(r, "admin").Address)
	return a.answerAWS(w, r, "forgotten", struct {
		Message string `json:"message"`
	}{"The credentials that were entered are forgotten"})
}

func (a *API) answerAWS(w http.ResponseWriter, r *http.Request, done string, view any) error {
	if sentJSON(r) || httpx.WantsJSON(r) {
		return httpx.WriteJSON(w, http.StatusOK, view)
	}
	http.Redirect(w, r, awsPage+"?done="+done, http.StatusSeeOther)
	return nil
}
