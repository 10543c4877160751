// Package simhost is a simulated Chrome Remote Desktop: a start-host with the
// flags, the PIN dialogue, the messages and the exit codes of Google's, and the
// chrome-remote-desktop script beside it. It reaches no network and starts no
// desktop. The demo and the tests use it where Google's programs cannot work.
//
// What the code holds decides what happens: "4/" at its start is required, and
// "expired" or "wrong" (OAuth error), "network", "denied", "unregistered",
// "nostart" (registered, but the service does not start), "slow" and "hang"
// simulate the rest. A code is good once.
package simhost

import (
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // the real program names its file by it
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// Mark stands in the first line of everything that the simulation prints.
const Mark = "SIMULATED Chrome Remote Desktop: no Google account is involved"

const runningFile = "simulated-running"

// StartHost is the program start-host. It returns the exit code.
func StartHost(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fmt.Fprintln(stdout, Mark)
	flags, ok := parse(args)
	if !ok || flags["code"] == "" || flags["redirect-url"] == "" {
		fmt.Fprintln(stderr, "Please visit https://remotedesktop.google.com/headless for instructions on running this tool and help generating the command line arguments.")
		return 1
	}
	in := bufio.NewReader(stdin)
	name := flags["display-name"]
	if name == "" {
		name = flags["name"]
	}
	if name == "" {
		fmt.Fprint(stdout, "Enter a name for this computer: ")
		name, _ = line(in)
	}
	pin, ok := askPIN(in, stdout)
	if !ok {
		fmt.Fprintln(stderr, "The input ended before there was a PIN. (The real program asks for ever.)")
		return 1
	}
	log(stderr, "INFO", "Registering the host (simulated).")
	if verdict := redeem(ctx, flags["code"], flags["redirect-url"]); verdict != "" {
		if verdict == "OAuth error" {
			log(stderr, "ERROR", "Failed to exchange the authorization_code due to an OAuth error.")
		}
		fmt.Fprintf(stderr, "Couldn't start host: %s.\n", verdict)
		return 1
	}
	if err := configure(name, pin); err != nil {
		log(stderr, "ERROR", "Failed to update config file. "+err.Error())
		fmt.Fprintln(stderr, "Couldn't start host.")
		return 1
	}
	if strings.Contains(flags["code"], "nostart") {
		log(stderr, "ERROR", "Failed to start host.")
		fmt.Fprintln(stderr, "Couldn't start host.")
		return 1
	}
	fmt.Fprintln(stdout, "Host started successfully.")
	return 0
}

// parse takes --name=value only: to the real program anything else is an
// argument, and it takes none.
func parse(args []string) (map[string]string, bool) {
	flags := map[string]string{}
	for _, a := range args {
		name, value, joined := strings.Cut(a, "=")
		name, dashed := strings.CutPrefix(name, "--")
		if !dashed || !joined {
			return nil, false
		}
		flags[name] = value
	}
	return flags, true
}

func line(in *bufio.Reader) (string, bool) {
	s, err := in.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err == nil || s != ""
}

func askPIN(in *bufio.Reader, out io.Writer) (string, bool) {
	for {
		fmt.Fprint(out, "Enter a PIN of at least six digits: ")
		pin, ok := line(in)
		fmt.Fprintln(out)
		if !ok {
			return "", false
		}
		if len(pin) < 6 || strings.Trim(pin, "0123456789") != "" {
			fmt.Fprintln(out, "Please provide a numeric PIN consisting of at least six digits.")
			continue
		}
		fmt.Fprint(out, "Enter the same PIN again: ")
		again, _ := line(in)
		fmt.Fprintln(out)
		if again != pin {
			fmt.Fprintln(out, "You entered different PINs.")
			continue
		}
		return pin, true
	}
}

// redeem plays Google: it returns "" or what went wrong.
func redeem(ctx context.Context, code, redirect string) string {
	has := func(word string) bool { return strings.Contains(strings.ToLower(code), word) }
	switch {
	case has("hang"):
		<-ctx.Done()
		return "network error"
	case has("slow"):
		timer := time.NewTimer(slowness())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return "network error"
		}
	}
	switch {
	case has("network"):
		return "network error"
	case !strings.HasPrefix(code, "4/"), has("expired"), has("wrong"), redirect != fleet.RedirectURL, !firstUse(code):
		return "OAuth error"
	case has("denied"):
		return "Permission denied"
	case has("unregistered"):
		return "Registration error"
	}
	return ""
}

// slowness is LABLINK_SIM_SLOW, or 3 seconds.
func slowness() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("LABLINK_SIM_SLOW")); err == nil {
		return d
	}
	return 3 * time.Second
}

// firstUse records a code in the folder LABLINK_SIM_DIR, by its hash. Creating
// the file is atomic: of two users at once, one comes first.
func firstUse(code string) bool {
	dir := os.Getenv("LABLINK_SIM_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("lablink-sim-%d", os.Getuid()))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // whoever sets the variable chooses the folder
		return false
	}
	sum := sha256.Sum256([]byte(code))
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(sum[:])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // see above
	if err != nil {
		return false
	}
	return f.Close() == nil
}

func configFolder() string {
	return filepath.Join(os.Getenv("HOME"), ".config", "chrome-remote-desktop")
}

// configure writes host#HASH.json as the real program does: whole or not at all.
func configure(name, pin string) error {
	dir := configFolder()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	machine, err := os.Hostname()
	if err != nil {
		return err
	}
	hash := md5.Sum([]byte(machine)) //nolint:gosec // see above
	secret := sha256.Sum256([]byte(name + pin))
	config, err := json.MarshalIndent(map[string]any{
		"simulated":        true,
		"host_id":          fleet.NewToken(),
		"host_name":        name,
		"host_owner":       "simulated@example.org",
		"host_secret_hash": "simulated:" + hex.EncodeToString(secret[:]),
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "host#"+hex.EncodeToString(hash[:])+".json")
	if err := os.WriteFile(path+".tmp", config, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, runningFile), nil, 0o600)
}

func log(w io.Writer, severity, text string) {
	fmt.Fprintf(w, "[%s:%s:simhost] %s\n", time.Now().Format("0102/150405.000000"), severity, text)
}

// Script is the program chrome-remote-desktop: --stop and --get-status. It
// returns the exit code.
func Script(args []string, stdout, stderr io.Writer) int {
	running := filepath.Join(configFolder(), runningFile)
	_, err := os.Stat(running)
	started := err == nil
	switch strings.Join(args, " ") {
	case "--stop", "-k":
		fmt.Fprintln(stdout, Mark)
		if !started {
			fmt.Fprintln(stdout, "The daemon is not currently running")
			return 0
		}
		fmt.Fprintln(stdout, "Killing process 0")
		if err := os.Remove(running); err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintln(stdout, "Timed out trying to kill daemon process")
			return 1
		}
		return 0
	case "--get-status":
		if started {
			fmt.Fprintln(stdout, "STARTED")
		} else {
			fmt.Fprintln(stdout, "STOPPED")
		}
		return 0
	default:
		fmt.Fprintln(stderr, "usage: chrome-remote-desktop [--stop | --get-status]   ("+Mark+")")
		return 2
	}
}

// Install writes two small programs into dir, start-host and
// chrome-remote-desktop, that run the hidden subcommands of lablinkBinary. It
// returns the path of start-host. Used codes are kept in the folder "codes"
// there, unless LABLINK_SIM_DIR names another.
func Install(dir, lablinkBinary string) (startHost string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if lablinkBinary, err = filepath.Abs(lablinkBinary); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // other users run what is in it
		return "", err
	}
	for _, name := range []string{"start-host", "chrome-remote-desktop"} {
		script := "#!/bin/sh\n# " + Mark + ".\n" +
			"[ -n \"$LABLINK_SIM_DIR\" ] || LABLINK_SIM_DIR=" + quote(filepath.Join(dir, "codes")) + "\nexport LABLINK_SIM_DIR\n" +
			"exec " + quote(lablinkBinary) + " " + name + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil { //nolint:gosec // a program
			return "", err
		}
	}
	return filepath.Join(dir, "start-host"), nil
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
