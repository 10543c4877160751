// Command lablink hands a room full of people their own cloud machines. It is
// the allocator, the agent on the machines, and the tools around both.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"lablink/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		// From the first signal on the defaults are back, so that a second one ends at once.
		<-ctx.Done()
		stop()
	}()
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
