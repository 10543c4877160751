package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"lablink/internal/agent/simhost"
)

// exitError ends the program with a code and without a word: what ran has said
// what there is to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ExitCode is what the program ends with.
func (e exitError) ExitCode() int { return int(e) }

// Silent tells that there is nothing to print.
func (e exitError) Silent() bool { return true }

func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exitError(code)
}

// newStartHostCommand makes the hidden "lablink start-host", a simulation of
// Google's program for the demo and the tests.
func newStartHostCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "start-host",
		Short:              "Simulate Google's start-host",
		Hidden:             true,
		DisableFlagParsing: true, // it is as strict as the real program
		RunE: func(cmd *cobra.Command, args []string) error {
			return exitWith(simhost.StartHost(cmd.Context(), args, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
}

// newChromeRemoteDesktopCommand makes the hidden "lablink chrome-remote-desktop",
// a simulation of the script beside Google's start-host.
func newChromeRemoteDesktopCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "chrome-remote-desktop",
		Short:              "Simulate Google's chrome-remote-desktop",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return exitWith(simhost.Script(args, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
}
