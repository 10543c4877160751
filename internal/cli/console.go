package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lablink/internal/agent"
	"lablink/internal/fleet"
)

// newTeeConsoleCommand makes "lablink tee-console", for the client container.
func newTeeConsoleCommand() *cobra.Command {
	var stateDir, hostname string
	cmd := &cobra.Command{
		Use:    "tee-console",
		Short:  "Copy standard input to standard output, and to where the agent takes it from",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), agentAliases); err != nil {
				return err
			}
			if err := fleet.ValidateHostname(hostname); err != nil {
				return usageError{fmt.Errorf("--hostname: %w", err)}
			}
			spool := agent.Console(stateDir, hostname)
			defer spool.Close()
			if cmd.InOrStdin() == os.Stdin {
				in, err := untilSignal(cmd.Context())
				if err != nil {
					return err
				}
				cmd.SetIn(in)
			}
			return teeConsole(cmd.InOrStdin(), cmd.OutOrStdout(), spool, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", defaultStateDir(), "folder of the agent")
	cmd.Flags().StringVar(&hostname, "hostname", "", "name of this VM as LabLink knows it")
	return cmd
}

// drainTime is for what is in the pipe when a signal comes. Whoever still writes
// to it does not hold the end up for longer.
const drainTime = 200 * time.Millisecond

// untilSignal is standard input, which ends soon after ctx does.
func untilSignal(ctx context.Context) (io.Reader, error) {
	if err := syscall.SetNonblock(syscall.Stdin, true); err != nil {
		return nil, err
	}
	in := os.NewFile(uintptr(syscall.Stdin), os.Stdin.Name())
	context.AfterFunc(ctx, func() {
		_ = in.SetReadDeadline(time.Now().Add(drainTime)) // a file has none, and ends by itself
	})
	return in, nil
}

// teeConsole copies until in ends. What cannot be written to the one place still
// goes to the other.
func teeConsole(in io.Reader, out, spool, errs io.Writer) error {
	b := make([]byte, 32<<10)
	complained := false
	for {
		n, err := in.Read(b)
		_, spoolErr := spool.Write(b[:n])
		if spoolErr != nil && !complained {
			complained = true
			fmt.Fprintln(errs, "lablink: the console is not sent to the allocator:", spoolErr)
		}
		_, _ = out.Write(b[:n]) // there is nobody else to tell
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
	}
}
