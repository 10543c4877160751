package logtext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean returns what a terminal would show of a line, more or less: of text that
// overwrites itself by carriage returns the last, without the sequences that
// set colours and titles, and without control characters.
func clean(line string) string {
	if isPlain(line) {
		return line
	}
	for {
		i := strings.LastIndexByte(line, '\r')
		if shown := strip(line[i+1:]); shown != "" || i < 0 {
			return shown
		}
		line = line[:i]
	}
}

// isPlain tells most lines from those that need a closer look.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

const tab = "    "

func strip(s string) string {
	b := make([]byte, 0, len(s))
	last := stringEnds(s)
	for i := 0; i < len(s); {
		if n := sequence(s[i:], i < last); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == '\t':
			b = append(b, tab...)
		case r == '\b':
			_, last := utf8.DecodeLastRune(b)
			b = b[:len(b)-last]
		case r == '\u2028', r == '\u2029':
			b = append(b, ' ')
		case r == '\u200c', r == '\u200d': // join letters, and emoji
			b = utf8.AppendRune(b, r)
		case unicode.In(r, unicode.Cc, unicode.Cf):
		default:
			b = utf8.AppendRune(b, r) // U+FFFD for a byte that is no text
		}
	}
	return string(b)
}

const escape = 0x1b

// sequence returns how long the terminal's control sequence is that s begins
// with, 0 if it begins with none. Only if there is an end of a string further on
// is it searched for.
func sequence(s string, hasEnd bool) int {
	introducer, n := rune(0), 0
	if s[0] == escape && len(s) > 1 {
		introducer, n = rune(s[1]), 2
	} else if r, size := utf8.DecodeRuneInString(s); r >= 0x80 && r <= 0x9f {
		introducer, n = r-0x40, size // the same introducers as one character each
	}
	switch introducer {
	case 0:
		return 0
	case '[': // parameters, then one letter
		n += span(s[n:], 0x20, 0x3f)
		if n < len(s) && s[n] >= 0x40 && s[n] <= 0x7e {
			n++
		}
		return n
	case ']', 'P', 'X', '^', '_': // a string, such as a title or a link
		if hasEnd {
			n += stringEnd(s[n:])
		}
		return n // without an end, what follows is shown
	}
	if s[0] != escape {
		return n // another control character
	}
	n = 1 + span(s[1:], 0x20, 0x2f)
	if n < len(s) && s[n] >= 0x30 && s[n] <= 0x7e {
		n++
	}
	return n
}

// span counts the leading bytes that lie between two.
func span(s string, first, last byte) (n int) {
	for n < len(s) && s[n] >= first && s[n] <= last {
		n++
	}
	return n
}

// stringEnd finds where a string that a sequence holds is terminated, 0 if it is
// not: by BEL, or by ST in its one or two characters.
func stringEnd(s string) int {
	for i := range len(s) {
		switch {
		case s[i] == '\a':
			return i + 1
		case s[i] == escape && i+1 < len(s) && s[i+1] == '\\', strings.HasPrefix(s[i:], st):
			return i + 2
		}
	}
	return 0
}

const st = "\u009c"

// stringEnds returns where the last end of a string is in s, -1 if there is none.
func stringEnds(s string) int {
	return max(strings.LastIndexByte(s, '\a'), strings.LastIndex(s, "\x1b\\"), strings.LastIndex(s, st))
}
