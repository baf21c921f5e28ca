package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// entry is one or several keys of testdata/reference.toml, with what is said of them.
type entry struct {
	names []string
	// lines are how the reference writes them, without a comment sign.
	lines []string
	// written: they stand in the reference without a comment sign.
	written bool
	words   []string
}

// section is a table of the reference.
type section struct {
	name    string // "vip"
	head    string // "[[vip]]"
	words   []string
	entries []*entry
}

// readReference takes testdata/reference.toml apart. What stands above a key is said of
// it, and of those that follow without words of their own.
func readReference(t *testing.T) (out []*section) {
	t.Helper()
	head := regexp.MustCompile(`^(# )?(\[+(\w+)\]+)$`)
	key := regexp.MustCompile(`^(# )?((\w+) += ("[^"]*"|\[.*\]|\{.*\}|\d+|true|false))$`)
	var words []string
	var now *section
	for i, line := range strings.Split(reference(t), "\n") {
		comment, isComment := strings.CutPrefix(line, "#")
		if m := head.FindStringSubmatch(line); m != nil {
			// Words above a commented head are of its first key here, and the section's there.
			j := slices.IndexFunc(out, func(s *section) bool { return s.name == m[3] })
			if j < 0 {
				out = append(out, &section{name: m[3], head: m[2], words: words})
				j = len(out) - 1
			} else {
				out[j].words = append(out[j].words, words...)
			}
			now, words = out[j], nil
			continue
		}
		m := key.FindStringSubmatch(line)
		switch {
		case m != nil && now != nil:
			now.add(m[3], m[2], m[1] == "", words)
			words = nil
		case isComment:
			words = append(words, strings.TrimSpace(comment))
		case line == "":
			words = nil
		default:
			t.Fatalf("reference.toml:%d: what is this: %s", i+1, line)
		}
	}
	return out
}

func (s *section) add(name, line string, written bool, words []string) {
	for _, e := range s.entries {
		if slices.Contains(e.names, name) {
			return
		}
	}
	if last := len(s.entries) - 1; len(words) == 0 && last >= 0 {
		e := s.entries[last]
		e.names, e.lines = append(e.names, name), append(e.lines, line)
		return
	}
	s.entries = append(s.entries, &entry{names: []string{name}, lines: []string{line}, written: written, words: words})
}

// takes is what a key takes, in words.
func takes(field reflect.Type) string {
	switch {
	case field.Kind() == reflect.Pointer:
		return takes(field.Elem())
	case field.Kind() == reflect.Map:
		return "table"
	case alone(field):
		return "text or table"
	case field.Kind() == reflect.Struct:
		return "table"
	case field.Kind() == reflect.Slice:
		return "list of " + strings.NewReplacer("text", "texts", "table", "tables").Replace(takes(field.Elem()))
	}
	return map[reflect.Kind]string{reflect.String: "text", reflect.Int64: "whole number", reflect.Bool: "true or false"}[field.Kind()]
}

// kindIn is what a section's key takes.
func kindIn(t *testing.T, s *section, name string) string {
	t.Helper()
	file := reflect.TypeFor[rawFile]()
	table := file.Field(slices.Index(keysOf(file), s.name)).Type
	if table.Kind() == reflect.Slice {
		table = table.Elem()
	}
	i := slices.Index(keysOf(table), name)
	if i < 0 {
		t.Fatalf("reference.toml: [%s] has no key %s", s.name, name)
	}
	return takes(table.Field(i).Type)
}

// standing says what is when a key is not written, as the parser has it: a file without
// it is refused, or a file with what the reference shows means the same as without.
func standing(t *testing.T, e *entry, name, line string) string {
	t.Helper()
	text := reference(t)
	means := func(text string) string {
		c, err := Parse("reference.toml", []byte(text), "h")
		if err != nil {
			return ""
		}
		return fmt.Sprintf("%+v", c)
	}
	if name == "mac" {
		return "of the address" // and so what the reference shows is that of its own
	}
	_, value, _ := strings.Cut(line, "=")
	value = strings.TrimSpace(value)
	if e.written {
		if means(strings.Replace(text, "\n"+line, "\n", 1)) == "" {
			return "required"
		}
		return "none"
	}
	if means(strings.Replace(text, "\n# "+line, "\n"+line, 1)) == means(text) {
		return "`" + value + "`"
	}
	return "none"
}

// configurationPage is docs/configuration.md.
func configurationPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# The configuration file

` + "`/etc/onevoice/onevoice.toml`" + ` is TOML, the same on all nodes but for ` + "`[node]` and `[admin]`" + `.
A key that does not exist, a value of another type and a value that cannot be are refused,
with the line and with what to write instead: ` + "`onevoice check`" + `.

This page is made from ` + "`config/testdata/reference.toml`" + `, the same as a file with
comments, and from the parser, whose defaults stand here (` + "`make docs`" + `). Times are texts
like ` + "`\"200ms\"`, `\"5s\"`, `\"10m\"` or `\"1h\"`" + `.
`)
	for _, s := range readReference(t) {
		fmt.Fprintf(&b, "\n## %s\n\n", s.head)
		if len(s.words) > 0 {
			fmt.Fprintf(&b, "%s\n\n", strings.Join(s.words, "\n"))
		}
		b.WriteString("| key | type | default |\n|---|---|---|\n")
		for _, e := range s.entries {
			for i, name := range e.names {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, kindIn(t, s, name), standing(t, e, name, e.lines[i]))
			}
		}
		for _, e := range s.entries {
			var titles []string
			for _, n := range e.names {
				titles = append(titles, s.name+"."+n)
			}
			fmt.Fprintf(&b, "\n### %s\n\n```toml\n%s\n```\n\n%s\n", strings.Join(titles, ", "), strings.Join(e.lines, "\n"), strings.Join(e.words, "\n"))
		}
	}
	return b.String()
}

// Every key of the parser is in docs/configuration.md, with its type and default.
func TestConfigurationPage(t *testing.T) {
	const path = "../docs/configuration.md"
	page := configurationPage(t)
	file := reflect.TypeFor[rawFile]()
	for i, name := range keysOf(file) {
		table := file.Field(i).Type
		if table.Kind() == reflect.Slice {
			table = table.Elem()
		}
		for _, key := range keysOf(table) {
			later := slices.ContainsFunc(notYets(), func(n notYet) bool { return n.key == name+"."+key && n.values == nil })
			if !later && !regexp.MustCompile(`(?m)^### .*\b`+name+`\.`+key+`\b`).MatchString(page) {
				t.Errorf("%s.%s is not in testdata/reference.toml, and so on no page", name, key)
			}
		}
	}
	old, _ := os.ReadFile(path)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(old) != page {
		t.Error("docs/configuration.md is not what the parser and testdata/reference.toml say; `make docs` writes it anew")
	}
}
