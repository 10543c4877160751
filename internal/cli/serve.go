package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"lablink/internal/config"
	"lablink/internal/server"
)

const serveHelp = `Runs the allocator: the pages for participants and organisers, the API for the
machines, and, unless a database URL is given, a private PostgreSQL server in
the data directory.

Settings come from flags, then the environment (LABLINK_LISTEN and so on), then
config.yaml. The first SIGTERM or Ctrl-C stops in order, a second one at once.`

func newServeCommand() *cobra.Command {
	var logFormat string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the allocator",
		Long:  serveHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), nil); err != nil {
				return err
			}
			logger, err := newLogger(cmd.ErrOrStderr(), logFormat)
			if err != nil {
				return usageError{err}
			}
			cfg, err := loadConfig(cmd.Flags())
			if err != nil {
				return err
			}
			return server.New(server.Options{
				Config: cfg, Logger: logger,
				NewPassword: func(user, password string) { showPassword(cmd.ErrOrStderr(), cfg.DataDir, user, password) },
			}).Run(cmd.Context())
		},
	}
	addConfigFlags(cmd.Flags())
	cmd.Flags().String("listen", ":5000", "HOST:PORT to listen on")
	forConfig(cmd.Flags(), "listen")
	cmd.Flags().StringVar(&logFormat, "log-format", "", "text or json (default: text on a terminal, else json)")
	return cmd
}

// addConfigFlags adds the flags of every command that works with the database.
// Their defaults are shown only; package config applies them.
func addConfigFlags(flags *pflag.FlagSet) {
	flags.String("config", "", "configuration file (default: $CONFIG_DIR/$CONFIG_NAME, if it is there)")
	flags.String("data-dir", "/var/lib/lablink", "folder of the private PostgreSQL server and of generated secrets")
	flags.String("database-url", "", "PostgreSQL server to use instead of a private one; better set LABLINK_DATABASE_URL, process listings are public")
	forConfig(flags, "config", "data-dir", "database-url")
}

// configFlag marks the flags that package config reads, from the environment as
// well.
const configFlag = "config"

func forConfig(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		f.Annotations = map[string][]string{configFlag: {name}}
	}
}

// loadConfig reads the configuration with the flags that were set.
func loadConfig(flags *pflag.FlagSet) (*config.Config, error) {
	set := map[string]string{}
	flags.Visit(func(f *pflag.Flag) {
		if f.Annotations[configFlag] != nil {
			set[f.Name] = f.Value.String()
		}
	})
	cfg, err := config.Load(config.Options{Flags: set, Environ: os.Environ()})
	if err != nil {
		return nil, usageError{fmt.Errorf("the configuration is wrong:\n%w", err)}
	}
	return cfg, nil
}

// showPassword prints a new password, but only to somebody who looks at it.
func showPassword(w io.Writer, dataDir, user, password string) {
	if isTerminal(w) {
		fmt.Fprintf(w, "\n  Admin log-in, made just now (also in %s/%s):\n    user      %s\n    password  %s\n\n",
			dataDir, server.PasswordFile, user, password)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newLogger writes to w, as text for people and as JSON for machines.
func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	if format == "" {
		format = "json"
		if isTerminal(w) {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	default:
		return nil, fmt.Errorf("--log-format: %q is not text or json", format)
	}
}
