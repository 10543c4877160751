package awsaccount

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// RefusedError is why AWS does not take credentials, for people.
type RefusedError struct{ reason string }

// Error implements error.
func (e *RefusedError) Error() string { return e.reason }

// advice is what to do about an answer of AWS's token service. See
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html.
var advice = map[string]string{
	"InvalidClientTokenId":  "AWS does not know the access key ID, or the session token does not belong to it",
	"SignatureDoesNotMatch": "the secret access key does not belong to the access key ID",
	"IncompleteSignature":   "the access key ID is none: it has letters and digits alone",
	"ExpiredToken":          "the session token has expired; get new temporary credentials",
	"ExpiredTokenException": "the session token has expired; get new temporary credentials",
	"RequestExpired":        "the clock of this server is wrong",
	"AccessDenied":          "AWS does not let these credentials ask who they are",
}

// unknownCode is the SDK's word for an answer in which there is no code of AWS's.
const unknownCode = "UnknownError"

// explain says why AWS did not tell who has credentials. AWS's own words may hold
// the access key ID, and are left out.
func explain(err error) error {
	code := ""
	if answer, answered := errors.AsType[smithy.APIError](err); answered {
		code = answer.ErrorCode()
	}
	status := 0
	if response, answered := errors.AsType[*awshttp.ResponseError](err); answered {
		status = response.HTTPStatusCode()
	}
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case code == unknownCode, code == "" && status != 0:
		return errors.New("what answered instead of AWS is something else: is a proxy in between?")
	case code != "" && (status >= http.StatusInternalServerError || throttled):
		return fmt.Errorf("AWS has no answer right now (%s): try again in a minute", code)
	case advice[code] != "":
		return &RefusedError{fmt.Sprintf("%s (%s)", advice[code], code)}
	case code != "":
		return &RefusedError{fmt.Sprintf("AWS refused the credentials (%s)", code)}
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("AWS did not answer within %v: can this server reach it?", askWithin)
	}
	if request, sent := errors.AsType[*url.Error](err); sent {
		err = request.Err // without the SDK's words around it
	}
	return fmt.Errorf("AWS cannot be reached: %w", err)
}
