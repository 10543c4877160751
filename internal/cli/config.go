package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lablink/internal/config"
)

// silentError is exit code 1 after everything was said on standard output.
type silentError struct{}

// Error is never printed.
func (silentError) Error() string { return "failed" }

// Silent tells that there is nothing to print.
func (silentError) Silent() bool { return true }

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check the configuration"}
	group(cmd, &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a configuration file and list everything that is wrong with it",
		Long: `Checks a configuration file by itself, without flags and environment. The first
word of the answer is [PASS] or [FAIL]; the exit code 0 or 1.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) == 1 {
				file = args[0]
			}
			out := cmd.OutOrStdout()
			err := config.ValidateFile(file, os.Environ())
			if err == nil {
				_, err = fmt.Fprintln(out, "[PASS] the configuration is valid")
				return err
			}
			var problems *config.Error
			if !errors.As(err, &problems) {
				return err
			}
			noun := "problems"
			if len(problems.Problems) == 1 {
				noun = "problem"
			}
			_, err = fmt.Fprintf(out, "[FAIL] %d %s\n%v\n", len(problems.Problems), noun, problems)
			return errors.Join(silentError{}, err)
		},
	})
	return cmd
}
