package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lablink/internal/agent"
	"lablink/internal/agent/crd"
	"lablink/internal/agent/ship"
	"lablink/internal/fleet"
)

const agentHelp = `Runs on a participant's VM. It waits for the allocator to send a Chrome Remote
Desktop command, carries it out with Google's start-host, and says how it went.

Every flag may also come from the environment: LABLINK_ALLOCATOR,
LABLINK_HOSTNAME, LABLINK_TOKEN_FILE and so on; a flag beats a variable. There
is no flag for the token itself, because process listings are public: put it in
a file that only the agent's user can read (--token-file), pipe it in
(--token-file -), or set LABLINK_TOKEN. ALLOCATOR_URL, VM_NAME and
SUBJECT_SOFTWARE of the existing LabLink images are read as well.`

// agentFlags are the settings as they were given.
type agentFlags struct {
	allocator, hostname, tokenFile string
	startHost, stateDir, user      string
	software, logFormat            string
	setupTimeout                   time.Duration
	shipLogs                       bool
	logFiles                       []string
	bootLog                        string
}

// newAgentCommand makes "lablink agent".
func newAgentCommand() *cobra.Command {
	started := time.Now()
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent --allocator URL --token-file FILE",
		Short: "Wait on a VM for a participant's Chrome Remote Desktop command",
		Long:  agentHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config(cmd, started)
			if err != nil {
				return usageError{err}
			}
			a, err := agent.New(cfg)
			if err != nil {
				return usageError{err}
			}
			return a.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.allocator, "allocator", "", "address of the allocator, such as https://lablink.example.org")
	flags.StringVar(&f.hostname, "hostname", "", "name of this VM as LabLink knows it (default: the machine's own)")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with this VM's token; - reads standard input")
	flags.StringVar(&f.startHost, "start-host", crd.DefaultStartHost, "Google's start-host program")
	flags.StringVar(&f.stateDir, "state-dir", "", "folder for what the agent remembers (default: "+defaultStateDir()+")")
	flags.StringVar(&f.user, "user", "", "user whose desktop it will be, when the agent runs as root")
	flags.StringVar(&f.software, "software", "", "report whether a process with this text in its arguments runs")
	flags.StringVar(&f.logFormat, "log-format", "", "text or json (default: text on a terminal, else json)")
	flags.DurationVar(&f.setupTimeout, "setup-timeout", 2*time.Minute, "how long start-host may take")
	flags.BoolVar(&f.shipLogs, "ship-logs", true, "send the agent's own log, and what its container prints, to the allocator; false where CloudWatch has them")
	flags.StringSliceVar(&f.logFiles, "log-file", nil, "send this file's lines, too, as NAME=PATH; may be repeated")
	flags.StringVar(&f.bootLog, "boot-log", defaultBootLog, "send cloud-init's output, if this is a file that the agent can read; none: do not")
	return cmd
}

// defaultBootLog is where cloud-init writes what it and its scripts print.
const defaultBootLog = "/var/log/cloud-init-output.log"

// agentAliases are the variables of the existing LabLink images.
var agentAliases = map[string]string{
	"allocator": "ALLOCATOR_URL",
	"hostname":  "VM_NAME",
	"software":  "SUBJECT_SOFTWARE",
}

// config turns the settings into the agent's configuration; its error names
// everything that is wrong with them.
func (f *agentFlags) config(cmd *cobra.Command, started time.Time) (agent.Config, error) {
	tokenFlag := cmd.Flags().Changed("token-file")
	errs := []error{fromEnvironment(cmd.Flags(), agentAliases)}
	log, err := newLogger(cmd.ErrOrStderr(), f.logFormat)
	errs = append(errs, err)

	allocator, err := agent.NormalizeAllocator(f.allocator)
	if err != nil {
		errs = append(errs, fmt.Errorf("--allocator: %w", err))
	}
	if f.hostname == "" {
		f.hostname = ownHostname()
	}
	if err := fleet.ValidateHostname(f.hostname); err != nil {
		errs = append(errs, fmt.Errorf("--hostname: %w", err))
	}
	token, err := f.token(cmd.InOrStdin(), tokenFlag, log)
	errs = append(errs, err)
	if f.setupTimeout < time.Second {
		errs = append(errs, fmt.Errorf("--setup-timeout: %v is too short, use at least 1s", f.setupTimeout))
	}
	if f.stateDir == "" {
		f.stateDir = defaultStateDir()
	}
	if f.startHost, err = filepath.Abs(f.startHost); err != nil {
		errs = append(errs, fmt.Errorf("--start-host: %w", err))
	}
	logFiles, err := f.logSources()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return agent.Config{}, err
	}
	warnAgent(log, allocator, token, crd.New(crd.Config{StartHost: f.startHost, User: f.user}).CheckUser())
	return agent.Config{
		Allocator: allocator, Hostname: f.hostname, Token: token, Version: Version, StateDir: f.stateDir,
		StartHost: f.startHost, User: f.user, SetupTimeout: f.setupTimeout,
		Software: f.software, StartedAt: started, ShipLogs: f.shipLogs, LogFiles: logFiles, Log: log,
	}, nil
}

func warnAgent(log *slog.Logger, allocator, token string, user error) {
	if token == "" {
		log.Warn("there is no token: this works only while the allocator has auth.machines: open")
	} else if strings.HasPrefix(allocator, "http://") && !strings.Contains(allocator, "://localhost") && !strings.Contains(allocator, "://127.") {
		log.Warn("the allocator's address has no TLS: this VM's token and the participants' codes travel in clear", "allocator", allocator)
	}
	if user != nil {
		log.Warn("this VM cannot be used by participants", "error", user)
	}
}

// logName is how a log may be called.
var logName = regexp.MustCompile(`^[a-z0-9._-]{1,32}$`)

// logSources are the files whose lines are sent.
func (f *agentFlags) logSources() (sources []ship.Source, err error) {
	taken := map[string]bool{agent.SourceAgent: true, agent.SourceConsole: true}
	add := func(name, path string, maybe bool) error {
		if taken[name] {
			return fmt.Errorf("--log-file: %s is the name of another log already", name)
		}
		taken[name] = true
		abs, err := filepath.Abs(path)
		sources = append(sources, ship.Source{Name: name, Path: abs, Maybe: maybe})
		return err
	}
	if f.bootLog != "" && f.bootLog != "none" {
		err = add(agent.SourceBoot, f.bootLog, f.bootLog == defaultBootLog)
	}
	for _, file := range f.logFiles {
		name, path, ok := strings.Cut(file, "=")
		if !ok || path == "" || !logName.MatchString(name) {
			err = errors.Join(err, fmt.Errorf("--log-file: %q is not of the form NAME=PATH, with a name of at most 32 of a-z, 0-9, '.', '_' and '-'", file))
			continue
		}
		err = errors.Join(err, add(name, path, false))
	}
	return sources, err
}

const maxToken = 4096 // bytes

// token reads the credential: --token-file, else LABLINK_TOKEN, else
// LABLINK_TOKEN_FILE. It takes LABLINK_TOKEN out of the environment.
func (f *agentFlags) token(stdin io.Reader, flag bool, log *slog.Logger) (string, error) {
	value := os.Getenv("LABLINK_TOKEN")
	set := value != ""
	if err := os.Unsetenv("LABLINK_TOKEN"); err != nil {
		return "", err
	}
	source := "LABLINK_TOKEN"
	switch {
	case f.tokenFile == "" || set && !flag:
	case f.tokenFile == "-":
		source = "standard input"
		data, err := io.ReadAll(io.LimitReader(stdin, maxToken+1))
		if err != nil {
			return "", fmt.Errorf("--token-file: reading standard input: %w", err)
		}
		value, set = string(data), true
	default:
		source = f.tokenFile
		var err error
		if value, err = readToken(f.tokenFile, log); err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		set = true
	}
	value = strings.TrimSpace(value)
	switch {
	case set && value == "":
		return "", fmt.Errorf("--token-file: there is no token in %s", source)
	case len(value) > maxToken || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "", fmt.Errorf("--token-file: what is in %s is not a token: it is one line of letters, digits, - and _", source)
	}
	return value, nil
}

func readToken(path string, log *slog.Logger) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && log != nil {
		log.Warn("other users can read this VM's token: chmod 600 it", "file", path, "mode", info.Mode().Perm().String())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	return string(data), err
}

// ownHostname is the machine's name up to the first dot, in lower case.
func ownHostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	label, _, _ := strings.Cut(strings.ToLower(name), ".")
	return label
}

// defaultStateDir is what systemd made for us, or the usual place.
func defaultStateDir() string {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/lablink-agent"
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".local", "state")
	}
	return filepath.Join(base, "lablink-agent")
}
