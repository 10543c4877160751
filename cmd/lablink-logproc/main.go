// Command lablink-logproc is the log processor: a Lambda function that posts what
// client VMs write to CloudWatch Logs to the allocator. docs/aws-allocator.md says
// how it is set up.
package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"lablink/internal/logship"
)

func main() {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") == "" {
		fmt.Fprintln(os.Stderr, "lablink-logproc is to be run by AWS Lambda, as a function of the runtime provided.al2023")
		os.Exit(2)
	}
	logger := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	slog.SetDefault(logger) // aws-lambda-go prints by package log
	config, warnings, err := logship.Configure(os.Getenv)
	for _, w := range warnings {
		logger.Warn("the configuration is unusual", "warning", w)
	}
	if err != nil {
		logger.Error("the configuration is wrong", "error", err)
		os.Exit(1)
	}
	lambda.Start(logship.New(config, logger).Handle)
}
