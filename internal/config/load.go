package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options says where values come from.
type Options struct {
	File    string            // the file to read; if "", as the flags and the environment say
	Flags   map[string]string // the flags that the user set, by name: config, listen, data-dir, database-url
	Environ []string          // as os.Environ returns it
}

// Load reads the file, the environment and the flags, and checks the whole. Flags beat the environment, which beats
// the file, which beats the defaults; what is written is checked even if something beats it. The error is an *Error
// with all problems.
func Load(o Options) (*Config, error) {
	env := newEnvironment(o.Environ)
	l := newLoader()
	whole := l.readFile(l.findFile(o, env))
	l.applyEnvironment(env)
	l.applyFlags(o.Flags)
	if whole {
		l.checkRules()
	}
	if err := asError(l.problems); err != nil {
		return nil, err
	}
	l.finish()
	return l.cfg, nil
}

// ValidateFile checks a file by itself: neither values from the environment nor flags are applied, so that the answer
// is the same on every machine. If path is "", environ says where the file is, as for Load. The error is an *Error.
func ValidateFile(path string, environ []string) error {
	if path == "" {
		env := newEnvironment(environ)
		if path = env.get("LABLINK_CONFIG", ""); path == "" {
			path = defaultFile(env)
		}
	}
	_, err := Load(Options{File: path})
	return err
}

// defaultFile is the file that is read if none is named. The Python system takes the name with and without extension,
// and always opens NAME.yaml.
func defaultFile(env environment) string {
	name := env.get("CONFIG_NAME", "config.yaml")
	for _, ext := range []string{".yaml", ".yml"} {
		name = strings.TrimSuffix(name, ext)
	}
	return filepath.Join(env.get("CONFIG_DIR", "/config"), name+".yaml")
}

// origin is where the value in force was written.
type origin struct {
	file string
	line int
	key  string
}

// loader fills a Config and collects what is wrong.
type loader struct {
	cfg      *Config
	problems []Problem
	origins  map[*key]origin // of keys that were written
	bad      map[*key]bool   // keys with a problem of their own, so that no rule adds a second one
}

func newLoader() *loader {
	l := &loader{cfg: &Config{}, origins: map[*key]origin{}, bad: map[*key]bool{}}
	for _, k := range keys {
		if k.def == "" {
			continue
		}
		if err := k.assign(l.cfg, k.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", k.path, err)) // a mistake in the table; any test finds it
		}
	}
	for _, v := range variables {
		*v.field(l.cfg) = v.def
	}
	return l
}

func (l *loader) add(at origin, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: at.file, Line: at.line, Key: at.key, Message: fmt.Sprintf(format, args...)})
}

// findFile returns the file to read, "" for none, and whether it must exist.
func (l *loader) findFile(o Options, env environment) (path string, must bool) {
	for _, named := range []string{o.File, o.Flags["config"], env.get("LABLINK_CONFIG", "")} {
		if named != "" {
			return named, true
		}
	}
	return defaultFile(env), false
}

// readFile applies the file's values. It reports false if they could not be understood at all.
func (l *loader) readFile(path string, must bool) bool {
	data, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !must:
		return true
	case errors.Is(err, fs.ErrNotExist):
		l.add(origin{file: path}, "no such file")
		return false
	case err != nil:
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err // the path is in front already
		}
		l.add(origin{file: path}, "cannot be read: %v", err)
		return false
	}
	l.cfg.File = path
	r := &reader{file: path}
	whole := r.readYAML(data)
	l.problems = append(l.problems, r.problems...)
	for _, p := range r.problems {
		if k := keyByPath[p.Key]; k != nil {
			l.bad[k] = true
		}
	}
	for _, w := range r.values {
		l.apply(w.key, w.items, origin{file: path, line: w.line, key: w.key.path})
	}
	return whole
}

// readBounded reads a file, but not much more than may be in it.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.New("it is a folder; name the file in it")
	}
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// apply checks a value and lets it beat what was there.
func (l *loader) apply(k *key, items []item, at origin) {
	l.origins[k] = at
	switch list := k.field(l.cfg).(type) {
	case *[]netip.Prefix:
		*list = nil
	case *[]string:
		*list = nil
	}
	for _, i := range items {
		if err := k.assign(l.cfg, i.text); err != nil {
			l.bad[k] = true
			where := at
			where.line = i.line
			l.add(where, "%v", err)
		}
	}
}

func (l *loader) applyEnvironment(env environment) {
	for _, k := range keys {
		for _, name := range []string{k.env(), k.alias} {
			if text, ok := env[name]; ok {
				l.apply(k, k.split(text, 0), origin{file: inEnvironment, key: name})
			}
		}
		if a, b := env[k.env()], env[k.alias]; a != "" && b != "" && a != b {
			l.add(origin{file: inEnvironment, key: k.alias}, "differs from %s, which means the same; set only one", k.env())
		}
	}
	for _, v := range variables {
		text := env.get(v.name, "")
		if text == "" {
			continue
		}
		if v.parse != nil {
			parsed, err := v.parse(text)
			if err != nil {
				l.add(origin{file: inEnvironment, key: v.name}, "%v", err)
				continue
			}
			text = parsed
		}
		*v.field(l.cfg) = text
	}
	misspelt := env.misspelt()
	slices.SortFunc(misspelt, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	l.problems = append(l.problems, misspelt...)
}

func (l *loader) applyFlags(flags map[string]string) {
	known := map[string]bool{"config": true}
	for _, k := range keys {
		if k.flag == "" {
			continue
		}
		known[k.flag] = true
		if text, ok := flags[k.flag]; ok {
			l.apply(k, k.split(text, 0), origin{file: inCommandLine, key: "--" + k.flag})
		}
	}
	for name := range flags {
		if !known[name] {
			l.add(origin{file: inCommandLine, key: "--" + name}, "is not a flag of the configuration")
		}
	}
}
