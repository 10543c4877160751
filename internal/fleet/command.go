package fleet

import (
	"strings"
)

// Limits of what a participant may paste. The whole command travels in a
// PostgreSQL notification, whose payload ends at 8,000 bytes, and JSON may
// double its length.
const (
	MaxCommandBytes = 2048
	MaxCodeBytes    = 512
)

// RedirectURL is what Google's headless page prints as --redirect-url, and the
// only value with which the code can be redeemed.
const RedirectURL = "https://remotedesktop.google.com/_/oauthredirect"

// Command is a Chrome Remote Desktop command that passed the grammar.
type Command struct {
	Text string // as pasted, trimmed, or the full form of a bare code; every word of it is harmless
	Code string // the one-time authorisation code: a secret
}

// ParseCommand reads what a participant pasted: Google's start-host line, or
// the bare code. The grammar is closed: whatever is not expected is refused, so
// that nothing but the code can travel on, and the code has no character that
// means anything to a shell.
//
//	command = [ "DISPLAY=" ] [ path ending in "start-host" ] { flag } | code
//	flag    = ( "--code" | "--redirect-url" | "--name" ) ( "=" | space ) value
//	space   = spaces, tabs, or a backslash before a line break
//
// A value may stand in matching quotes, which hold no space. Redirect URL and
// name are checked to be harmless, and ignored. The errors speak to the participant.
func ParseCommand(text string) (Command, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Command{}, commandError("Paste the command from Google's page here. It starts with DISPLAY= and has --code in it.")
	}
	switch lower := strings.ToLower(text); {
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return Command{}, commandError("That is a web address, not the command. On Google's page, copy the line that starts with DISPLAY=.")
	case strings.Contains(lower, "remoting_start_host.exe"):
		return Command{}, commandError("That is the command for Windows. Copy the one under Debian Linux from Google's page; it starts with DISPLAY=.")
	}
	if len(text) > MaxCommandBytes {
		return Command{}, commandError("That is too long (%d characters, at most %d). Copy only the command from Google's page.", len(text), MaxCommandBytes)
	}
	words, err := splitWords(text)
	if err != nil {
		return Command{}, err
	}
	if len(words) == 1 && !strings.ContainsAny(words[0], "=\"'") && !strings.HasPrefix(words[0], "-") && !isStartHost(words[0]) {
		if err := checkCode(words[0]); err != nil {
			return Command{}, err
		}
		return Command{Text: CommandFor(words[0]), Code: words[0]}, nil
	}
	if words[0] == "DISPLAY=" {
		words = words[1:]
	}
	if len(words) > 0 && isStartHost(words[0]) {
		words = words[1:]
	}
	flags, err := parseFlags(words)
	if err != nil {
		return Command{}, err
	}
	code, ok := flags["--code"]
	if !ok {
		return Command{}, commandError("The part with --code is missing. Copy the whole command from Google's page, from DISPLAY= to the end.")
	}
	if err := checkCode(code); err != nil {
		return Command{}, err
	}
	return Command{Text: text, Code: code}, nil
}

// CommandFor returns the command that Google's page prints for a code.
func CommandFor(code string) string {
	return `DISPLAY= /opt/google/chrome-remote-desktop/start-host --code="` + code +
		`" --redirect-url="` + RedirectURL + `" --name=$(hostname)`
}

// splitWords cuts at spaces, tabs and backslash-newline. Any other control
// character or line break is refused: it would split the command in two.
func splitWords(text string) ([]string, error) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r':
			return nil, commandError("There is more than one line here. Copy only the command for Debian Linux from Google's page.")
		case r < ' ' && r != '\t', r == 0x7f:
			return nil, commandError("There is a character in the command that does not belong there. Copy it again from Google's page.")
		case r > 0x7e:
			return nil, commandError("There is a special character (%q) in the command. Copy it again from Google's page, with its copy button.", r)
		}
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' }), nil
}

func isStartHost(word string) bool {
	if word != "start-host" && !strings.HasSuffix(word, "/start-host") {
		return false
	}
	for _, r := range word {
		if !isAlphanumeric(r) && !strings.ContainsRune("/_.-", r) {
			return false
		}
	}
	return true
}

func parseFlags(words []string) (map[string]string, error) {
	flags := map[string]string{}
	for len(words) > 0 {
		name, value, joined := strings.Cut(words[0], "=")
		words = words[1:]
		switch name {
		case "--code", "--redirect-url", "--name":
		default:
			return nil, commandError("This is not the command from Google's page: %q does not belong in it. Copy the line that starts with DISPLAY=.", clip(name))
		}
		if _, twice := flags[name]; twice {
			return nil, commandError("%s is there twice. Delete everything and paste the command once.", name)
		}
		if !joined {
			if len(words) == 0 {
				return nil, commandError("There is nothing after %s. The end of the command is missing: copy all of it.", name)
			}
			value, words = words[0], words[1:]
		}
		value, err := unquote(name, value)
		if err != nil {
			return nil, err
		}
		flags[name] = value
	}
	return flags, nil
}

func unquote(name, value string) (string, error) {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		value = value[1 : len(value)-1]
	}
	switch {
	case strings.ContainsAny(value, "\"'\\`"):
		return "", commandError("The quotation marks after %s do not match. Copy the command again, all of it.", name)
	case value == "":
		return "", commandError("There is nothing after %s. Copy the command again, all of it.", name)
	case value[0] == '-':
		return "", commandError("What comes after %s is missing. Copy the command again, all of it.", name)
	case name != "--code" && value != "$(hostname)" && strings.ContainsFunc(value, func(r rune) bool {
		return !isAlphanumeric(r) && !strings.ContainsRune("/_.~%:?=&+@,-", r)
	}):
		return "", commandError("What comes after %s is not what Google's page has there. Copy the command again, all of it.", name)
	}
	return value, nil
}

func checkCode(code string) error {
	if len(code) > MaxCodeBytes {
		return commandError("The code is too long (%d characters, at most %d). Copy the command again from Google's page.", len(code), MaxCodeBytes)
	}
	if strings.HasPrefix(code, "-") {
		return commandError("The code after --code is missing. Copy the command again, all of it.")
	}
	for _, r := range code {
		if !isAlphanumeric(r) && !strings.ContainsRune("/_.~%-", r) {
			return commandError("The code after --code has a character (%q) that Google never uses. Copy the command again from Google's page.", r)
		}
	}
	return nil
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// clip keeps a word that somebody pasted by mistake short in an error. It never
// shows the value of a flag, only the name before its "=".
func clip(word string) string {
	if len(word) > 24 {
		return word[:24] + "..."
	}
	return word
}

func commandError(format string, args ...any) error {
	return FieldErrorf("crd_command", format, args...)
}
