package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// kind is the type of a key's value.
type kind int

const (
	kindText kind = iota
	kindSecret
	kindInt
	kindBool
	kindDuration
	kindNets  // a list of addresses and networks
	kindTexts // a list of texts
)

// isList reports whether a value of the kind has elements.
func (k kind) isList() bool { return k == kindNets || k == kindTexts }

// String names the kind as the reference and the problems do.
func (k kind) String() string {
	return [...]string{"text", "secret text", "whole number", "true or false", "duration", "list of addresses", "list"}[k]
}

// assign checks text and puts it where k's value belongs; for a list, it appends. Its error says what is allowed.
func (k *key) assign(c *Config, text string) error {
	if k.kind != kindSecret {
		text = strings.TrimSpace(text)
	}
	text = strings.TrimRight(text, "\r\n")
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("must be one line, without control characters")
	}
	switch dst := k.field(c).(type) {
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number such as %s%s", k.def, k.found(text))
		}
		*dst = n
		return k.inRange(int64(n))
	case *bool:
		b, err := parseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false%s", k.found(text))
		}
		*dst = b
	case *time.Duration:
		d, err := parseDuration(text)
		if err != nil {
			return fmt.Errorf("must be a duration with its unit, such as 25s, 10m, 48h or 7d%s", k.found(text))
		}
		*dst = d
		return k.inRange(int64(d))
	case *[]netip.Prefix:
		p, err := parseNet(text)
		if err != nil {
			return fmt.Errorf("must be an IP address or a network such as 10.0.0.0/8%s", k.found(text))
		}
		*dst = append(*dst, p)
	case *[]string:
		var one string
		if err := k.assignText(reflect.ValueOf(&one).Elem(), text); err != nil {
			return err
		}
		*dst = append(*dst, one)
	default:
		return k.assignText(reflect.ValueOf(dst).Elem(), text)
	}
	return nil
}

// assignText is assign for the string types.
func (k *key) assignText(dst reflect.Value, text string) error {
	if len(k.allowed) > 0 && text != "" {
		if err := k.isAllowed(text); err != nil {
			return err
		}
	}
	if k.parse != nil && text != "" {
		parsed, err := k.parse(text)
		if err != nil {
			return fmt.Errorf("%w%s", err, k.found(text))
		}
		text = parsed
	}
	if text == "" && (k.needed || len(k.allowed) > 0 && k.def != "") {
		return fmt.Errorf("must not be empty; leave the key out for the default, %s", k.def)
	}
	dst.SetString(text)
	return nil
}

func (k *key) isAllowed(text string) error {
	if slices.Contains(k.allowed, text) {
		return nil
	}
	if len(k.allowed) == 1 {
		return fmt.Errorf("can only be %s here; write that or leave the key out%s", k.allowed[0], k.found(text))
	}
	hint := ""
	if best := nearest(text, k.allowed, 2); best != "" {
		hint = fmt.Sprintf("; did you mean %s?", best)
	}
	return fmt.Errorf("must be %s%s%s", orList(k.allowed), k.found(text), hint)
}

func (k *key) inRange(n int64) error {
	if k.min == 0 && k.max == 0 || n >= k.min && n <= k.max {
		return nil
	}
	if k.kind == kindDuration {
		return fmt.Errorf("must be from %s to %s, found %s", showDuration(time.Duration(k.min)), showDuration(time.Duration(k.max)),
			showDuration(time.Duration(n)))
	}
	if k.max == most {
		return fmt.Errorf("must be %d or more, found %d", k.min, n)
	}
	return fmt.Errorf("must be from %d to %d, found %d", k.min, k.max, n)
}

// found returns a phrase that shows what was written, or nothing if it may be secret.
func (k *key) found(text string) string {
	if k.kind == kindSecret || strings.Contains(text, "@") {
		return ""
	}
	const longest = 40
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "..."
	}
	return fmt.Sprintf(", found %q", text)
}

// parseBool accepts what YAML 1.1 and the Python system take for true and false.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "y", "t", "1":
		return true, nil
	case "false", "no", "off", "n", "f", "0":
		return false, nil
	}
	return false, errors.New("neither true nor false")
}

// parseDuration is time.ParseDuration with days in front, as in 7d or 1d12h.
func parseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("days: %w", err)
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	r, err := time.ParseDuration(rest)
	return d + r, err
}

// showDuration writes d as a person would: 7d, 25s, 1h30m.
func showDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// seconds is for the bounds in the table.
func seconds(n int64) int64 { return n * int64(time.Second) }

// parseNet reads an address or a network; an address is a network of one.
func parseNet(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}
