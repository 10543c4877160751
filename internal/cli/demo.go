package cli

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"lablink/internal/demo"
)

const demoHelp = `Runs the whole of LabLink on this machine: the allocator with a private
PostgreSQL, VMs that Terraform or OpenTofu makes out of processes, and a simulated
Chrome Remote Desktop. Everything lives in a temporary folder that is removed at
the end.

LABLINK_PROVISION_TERRAFORM is the path of Terraform or OpenTofu, if it is not to
be found in PATH.`

func newDemoCommand() *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try LabLink on this machine",
		Long:  demoHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := fromEnvironment(cmd.Flags(), nil); err != nil {
				return err
			}
			if o.VMs < 1 || o.VMs > 100 {
				return usageError{fmt.Errorf("--vms: %d is not between 1 and 100", o.VMs)}
			}
			if o.Binary, err = os.Executable(); err != nil {
				return err
			}
			o.Out, o.Terraform = cmd.OutOrStdout(), os.Getenv("LABLINK_PROVISION_TERRAFORM")
			if o.Once && !cmd.Flags().Changed("listen") {
				o.Listen = "127.0.0.1:0" // any free port: nobody has to find it
			}
			// Agents and PostgreSQL would stay behind if a signal could end the program. So a
			// terminal or a pipe that is closed ends the demo in order, as Ctrl-C does, and a
			// second Ctrl-C must not cut the clean-up, which takes a few seconds.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			impatient := make(chan os.Signal, 1)
			signal.Notify(impatient, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(impatient)
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:5000", "HOST:PORT to listen on")
	cmd.Flags().IntVar(&o.VMs, "vms", 3, "number of machines")
	cmd.Flags().BoolVar(&o.Once, "once", false, "play a participant through all phases, print each, and end")
	return cmd
}
