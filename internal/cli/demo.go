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
PostgreSQL, machines that are processes, and a simulated Chrome Remote Desktop.
Everything lives in a temporary folder that is removed at the end.`

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
			o.Out = cmd.OutOrStdout()
			if o.Once && !cmd.Flags().Changed("listen") {
				o.Listen = "127.0.0.1:0" // any free port: nobody has to find it
			}
			// A second Ctrl-C must not end the clean-up, which takes a second or two: agents
			// and PostgreSQL would stay behind.
			impatient := make(chan os.Signal, 1)
			signal.Notify(impatient, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(impatient)
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:5000", "HOST:PORT to listen on")
	cmd.Flags().IntVar(&o.VMs, "vms", 3, "number of machines")
	cmd.Flags().BoolVar(&o.Once, "once", false, "play a participant through all phases, print each, and end")
	return cmd
}
