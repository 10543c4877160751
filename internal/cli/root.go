// Package cli is the command line of lablink: one file per subcommand.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Version is set by the linker.
var Version = "dev"

// Main runs the command line and returns the exit code: 0 after success, 2 if the
// arguments or the configuration are wrong, 1 after any other failure. ctx ends
// at the first signal.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var silent interface{ Silent() bool }
	if !errors.As(err, &silent) || !silent.Silent() {
		fmt.Fprintln(stderr, "lablink:", err)
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lablink",
		Short: "Hands a room full of people their own cloud machines",
		Long: `LabLink hands a room full of people their own cloud machines.

On a server:            lablink serve
On each machine (VM):   lablink agent --allocator URL --token-file FILE
To try it here:         lablink demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	group(root, newServeCommand(), newAgentCommand(), newDemoCommand(), newConfigCommand(), newMigrateCommand(),
		newAdminCommand(), newVersionCommand(), newDiagramCommand(), newStartHostCommand(), newChromeRemoteDesktopCommand(), newTeeConsoleCommand())
	return root
}

// group makes cmd a command that only holds others.
func group(cmd *cobra.Command, others ...*cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = noArgs // otherwise cobra takes an unknown command for a wish for help
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(others...)
}

// fromEnvironment sets the flags that were not given from LABLINK_<FLAG>, or from
// a flag's other variable. Flags that package config reads are left to it.
func fromEnvironment(flags *pflag.FlagSet, aliases map[string]string) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Annotations[configFlag] != nil {
			return
		}
		for _, key := range []string{"LABLINK_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")), aliases[f.Name]} {
			if v := os.Getenv(key); key != "" && v != "" {
				if err := flags.Set(f.Name, v); err != nil {
					errs = append(errs, usageError{fmt.Errorf("%s: %w", key, err)})
				}
				return
			}
		}
	})
	return errors.Join(errs...)
}

// usageError is a wrong argument or setting: exit code 2.
type usageError struct{ error }

// Unwrap returns what is wrong.
func (e usageError) Unwrap() error { return e.error }

// ExitCode is what the program ends with.
func (usageError) ExitCode() int { return 2 }

// noArgs refuses arguments, as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err == nil {
		return nil
	}
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w, did you mean %q?", err, like[0])
	}
	return usageError{err}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "lablink", Version)
			return err
		},
	}
}
