package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/pgserver"
	"lablink/internal/server"
	"lablink/internal/store"
)

// withDatabase calls f with the URL of the configured database. The private
// server is used as it runs, or started for as long as f takes.
func withDatabase(ctx context.Context, cfg *config.Config, f func(url string) error) (err error) {
	if url := cfg.DatabaseURL.Reveal(); url != "" {
		return f(url)
	}
	dir := filepath.Join(cfg.DataDir, "postgres")
	if url, err := pgserver.Attach(dir); err == nil {
		return f(url)
	}
	private, err := pgserver.Start(ctx, pgserver.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, private.Stop(stopping))
	}()
	return f(private.URL())
}

func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the schema of this version",
		Long:  `Brings the database to the schema of this version. "lablink serve" does the same at its start.`,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd.Flags())
			if err != nil {
				return err
			}
			err = withDatabase(cmd.Context(), cfg, func(url string) error { return store.Migrate(cmd.Context(), url) })
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the database is up to date")
			return err
		},
	}
	addConfigFlags(cmd.Flags())
	return cmd
}

func newAdminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Manage the organiser's log-in"}
	var fromStdin bool
	reset := &cobra.Command{
		Use:   "reset-password",
		Short: "Set a new admin password",
		Long: `Makes a new admin password, stores it in DATA_DIR/admin-password, and prints it.
With --stdin, the password is read from standard input instead. A running
server takes it from the next request on.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return resetPassword(cmd, fromStdin) },
	}
	addConfigFlags(reset.Flags())
	reset.Flags().BoolVar(&fromStdin, "stdin", false, "read the new password from standard input")
	group(cmd, reset)
	return cmd
}

func resetPassword(cmd *cobra.Command, fromStdin bool) error {
	cfg, err := loadConfig(cmd.Flags())
	if err != nil {
		return err
	}
	if cfg.Admin.Password != "" {
		return errors.New("the admin password is set by the configuration (app.admin_password or LABLINK_ADMIN_PASSWORD): change it there")
	}
	password := fleet.NewToken()[:20] // 120 bits
	if fromStdin {
		if password, err = readPassword(cmd.InOrStdin()); err != nil {
			return err
		}
	}
	err = withDatabase(cmd.Context(), cfg, func(url string) error {
		if err := store.Migrate(cmd.Context(), url); err != nil {
			return err
		}
		st, err := store.Open(cmd.Context(), url)
		if err != nil {
			return err
		}
		defer st.Close()
		return server.SetPassword(cmd.Context(), st, password)
	})
	if err != nil {
		return err
	}
	if fromStdin {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the admin password is changed")
		// What is in the file is not the password any more.
		return errors.Join(err, server.RemovePassword(cfg.DataDir))
	}
	// Printed first: the password is in force now, whatever becomes of the file.
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "user      %s\npassword  %s\n", cfg.Admin.User, password)
	return errors.Join(err, server.WritePassword(cfg.DataDir, password))
}

func readPassword(stdin io.Reader) (string, error) {
	const shortest = 8
	data, err := io.ReadAll(io.LimitReader(stdin, 1024))
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(data), "\r\n")
	if len(password) < shortest || strings.ContainsAny(password, "\r\n") {
		return "", usageError{fmt.Errorf("the password must be one line of at least %d characters", shortest)}
	}
	return password, nil
}
