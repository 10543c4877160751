package config

import (
	"fmt"
	"strings"
)

// unknown says what is wrong with a name that parent has not, and where the right one is.
func unknown(parent, name string) string {
	where := "at the top level"
	if parent != "" {
		where = "in " + parent
	}
	siblings := children[parent]
	if s := nearest(name, siblings, 0); s != "" { // differs in case or dashes only
		return fmt.Sprintf("unknown key; it is spelt %s", s)
	}
	if k := flatKey(parent, name); k != nil {
		section, leaf := splitPath(k.path)
		return fmt.Sprintf("unknown key; write %s: indented under %s:", leaf, strings.ReplaceAll(section, ".", ": "))
	}
	if homes := homesOf(name); len(homes) > 0 {
		return fmt.Sprintf("there is no %s %s; it belongs to %s", name, where, orList(homes))
	}
	if s := nearest(name, siblings, reach(name)); s != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", joinPath(parent, s))
	}
	if best := nearest(name, leaves(), reach(name)); best != "" {
		homes := homesOf(best)
		for i, h := range homes {
			homes[i] = joinPath(h, best)
		}
		return fmt.Sprintf("unknown key; did you mean %s?", orList(homes))
	}
	return fmt.Sprintf("unknown key; the keys %s are %s", where, strings.Join(siblings, ", "))
}

// flatKey finds the key that was meant by limits.max_vms or limits_max_vms written as one name.
func flatKey(parent, name string) *key {
	flat := func(s string) string { return strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToLower(s)) }
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	for _, k := range keys {
		if strings.Contains(k.path, ".") && flat(k.path) == flat(joinPath(parent, name)) {
			return k
		}
	}
	return nil
}

// homesOf returns the sections that have a key or a section of this name, written for people.
func homesOf(name string) []string {
	var homes []string
	for _, s := range sections {
		for _, child := range children[s.path] {
			if child != name {
				continue
			}
			if s.path == "" {
				homes = append(homes, "the top level")
			} else {
				homes = append(homes, s.path)
			}
		}
	}
	return homes
}

// leaves returns the names of all keys that are in a section, once each.
func leaves() []string {
	var names []string
	seen := map[string]bool{}
	for _, k := range keys {
		if parent, name := splitPath(k.path); parent != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// reach is how far a name may be from what was written and still be what was meant.
func reach(name string) int {
	if len(name) < 5 {
		return 1
	}
	return max(2, len(name)/4)
}

// nearest returns the candidate closest to name, at most reach edits away, or "". Case and dashes do not count.
func nearest(name string, candidates []string, reach int) string {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	best, bestDistance := "", reach+1
	for _, c := range candidates {
		if d := distance(plain(name), plain(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with a neighbour to turn a into b. It gives up with
// limit where the lengths alone need as many, so a long name costs nothing.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// orList writes a, b or c.
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
