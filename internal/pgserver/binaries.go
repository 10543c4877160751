package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// binaries are the server programs of one PostgreSQL installation.
type binaries struct {
	dir   string
	major int
}

func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }
func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }

// oldest is the oldest version that the PostgreSQL project maintains.
const oldest = 14

// usualPlaces are where packages put server programs without adding them to PATH.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/pgsql-*/bin",                   // Red Hat, from postgresql.org
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew, Apple silicon
	"/usr/local/opt/postgresql@*/bin",    // Homebrew, Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
}

const howToInstall = "install them (Debian, Ubuntu: apt install postgresql; Red Hat, Fedora: dnf install postgresql-server; " +
	"macOS: brew install postgresql@17), or give --database-url of a server"

// findBinaries looks in PATH, asks pg_config, and tries the usual places, the
// newest first. An existing cluster of version want (else "") decides.
func findBinaries(ctx context.Context, binDir, want string) (binaries, error) {
	var dirs []string
	if binDir != "" {
		dirs = []string{binDir}
	} else {
		if p, err := exec.LookPath("postgres"); err == nil {
			// A link in PATH says where the rest is.
			if p, err = filepath.EvalSymlinks(p); err == nil {
				dirs = append(dirs, filepath.Dir(p))
			}
		}
		if out, err := output(ctx, "pg_config", "--bindir"); err == nil {
			dirs = append(dirs, strings.TrimSpace(out))
		}
		dirs = append(dirs, globNewest(usualPlaces)...)
	}

	var found []binaries
	for _, dir := range dirs {
		b, err := inspect(ctx, dir)
		if err == nil {
			found = append(found, b)
		} else if ctx.Err() != nil || binDir != "" {
			return binaries{}, err
		}
	}
	return choose(found, want)
}

func choose(found []binaries, want string) (binaries, error) {
	if len(found) == 0 {
		return binaries{}, fmt.Errorf("no PostgreSQL server programs found in PATH, by pg_config, or in the usual folders: %s", howToInstall)
	}
	var have []string
	for _, b := range found {
		v := strconv.Itoa(b.major)
		if v == want || want == "" && b.major >= oldest {
			return b, nil
		}
		if !slices.Contains(have, v) {
			have = append(have, v)
		}
	}
	installed := strings.Join(have, ", ")
	if want == "" {
		return binaries{}, fmt.Errorf("the installed PostgreSQL %s is too old: LabLink needs %d or newer; %s", installed, oldest, howToInstall)
	}
	return binaries{}, fmt.Errorf("the data folder was made by PostgreSQL %s, but only PostgreSQL %s is installed: install version %s again, "+
		"or bring the data over with pg_upgrade, or with pg_dump of the old version and a restore into an empty folder; nothing was changed", want, installed, want)
}

// globNewest expands the patterns, higher version numbers first.
func globNewest(patterns []string) []string {
	type place struct {
		dir     string
		version float64
	}
	var places []place
	number := regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)
	for _, pattern := range patterns {
		dirs, _ := filepath.Glob(pattern) // the only error is a bad pattern
		for _, dir := range dirs {
			var v float64
			if numbers := number.FindAllString(dir, -1); len(numbers) > 0 {
				v, _ = strconv.ParseFloat(numbers[len(numbers)-1], 64)
			}
			places = append(places, place{dir, v})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(b.version, a.version) })
	dirs := make([]string, len(places))
	for i, p := range places {
		dirs[i] = p.dir
	}
	return dirs
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)

// inspect tells which version is in dir; both programs must be there.
func inspect(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	var seen [2]string
	for i, program := range []string{b.postgres(), b.initdb()} {
		out, err := output(ctx, program, "--version")
		if err != nil {
			return b, fmt.Errorf("no PostgreSQL server programs in %s: %w; %s", dir, err, howToInstall)
		}
		m := versionPattern.FindStringSubmatch(out)
		if m == nil {
			return b, fmt.Errorf("%s does not say which version of PostgreSQL it is, but %q", program, strings.TrimSpace(out))
		}
		seen[i] = m[1]
	}
	if seen[0] != seen[1] {
		return b, errors.New("postgres and initdb in " + dir + " differ in version")
	}
	var err error
	b.major, err = strconv.Atoi(seen[0])
	return b, err
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = childEnv()
	out, err := cmd.Output()
	return string(out), err
}
