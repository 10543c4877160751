package api

import (
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

func (a *API) setAWSCredentials(w http.ResponseWriter, r *http.Request) error {
	if err := a.mayEnter(); err != nil {
		return err
	}
	c, err := readCredentials(r)
	switch {
	case err != nil:
		return err
	case c.AccessKeyID == "":
		return fleet.FieldErrorf("aws_access_key_id", "aws_access_key_id is required")
	case c.SecretAccessKey == "":
		return fleet.FieldErrorf("aws_secret_access_key", "aws_secret_access_key is required")
	case c.Region != "" && c.Region != a.AWS.Region:
		return fleet.FieldErrorf("aws_region", "the region is %s, as app.region has it, and not %q", a.AWS.Region, clip(c.Region))
	}
	if retry, ok := a.awsAttempts.Allow(""); !ok {
		return &fleet.Error{Kind: fleet.Limited, RetryAfter: retry, Message: "AWS was asked too often whether credentials are good"}
	}
	who, err := a.AWS.Enter(r.Context(), awsaccount.Keys{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token})
	actor := httpx.ActorOf(r, "admin")
	if err != nil {
		httpx.Logger(r.Context()).Info("AWS credentials refused", "address", actor.Address, "error", err)
		return fleet.Errorf(fleet.Invalid, "%v", err)
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
