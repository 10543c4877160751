package awsaccount

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
)

// advice is what to do about an answer of AWS's token service. See
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html.
var advice = map[string]string{
	"InvalidClientTokenId":  "AWS does not know the access key ID, or the session token does not belong to it",
	"SignatureDoesNotMatch": "the secret access key does not belong to the access key ID",
	"ExpiredToken":          "the session token has expired; get new temporary credentials",
	"ExpiredTokenException": "the session token has expired; get new temporary credentials",
	"RequestExpired":        "the clock of this server is wrong",
	"AccessDenied":          "AWS does not let these credentials ask who they are",
}

// explain says why AWS did not tell who has these credentials. AWS's own words may
// hold the access key ID, and are left out.
func explain(err error, used aws.Credentials) error {
	answer, answered := errors.AsType[smithy.APIError](err)
	switch {
	case answered && advice[answer.ErrorCode()] != "":
		return fmt.Errorf("%s (%s)", advice[answer.ErrorCode()], answer.ErrorCode())
	case answered:
		return fmt.Errorf("AWS refused the credentials (%s)", answer.ErrorCode())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("AWS did not answer within %v: can this server reach it?", askWithin)
	case used.Source == sourceEntered:
		return fmt.Errorf("AWS cannot be reached, so that the credentials could not be tried: %w", err)
	default:
		return fmt.Errorf("AWS cannot be reached: %w", err)
	}
}
