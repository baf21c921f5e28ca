package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"onevoice/config"
)

// pagesOfDocs are the pages that users read.
func pagesOfDocs(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/howto/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, names...)
	}
	if len(out) < 10 {
		t.Fatalf("only %d pages are found", len(out))
	}
	return out
}

// whole fills a part of a configuration up to a file.
func whole(t *testing.T, part string) (string, error) {
	t.Helper()
	file := map[string]any{}
	if err := toml.Unmarshal([]byte(part), &file); err != nil {
		return "", err
	}
	fill := func(table string, with map[string]any) {
		have, ok := file[table].(map[string]any)
		if !ok {
			have = map[string]any{}
		}
		for k, v := range with {
			if _, ok := have[k]; !ok {
				have[k] = v
			}
		}
		file[table] = have
	}
	fill("cluster", map[string]any{"name": "unix", "interface": "eth0", "key_file": "/etc/onevoice/cluster.key", "peers": []string{"10.77.0.11", "10.77.0.12", "10.77.0.13"}})
	if file["vip"] == nil {
		file["vip"] = []any{map[string]any{"address": "10.77.0.2/24"}}
	}
	if file["service"] == nil {
		file["service"] = []any{map[string]any{"name": "ssh", "listen": "10.77.0.2:22", "backend": "127.0.0.1:22"}}
	}
	text, err := toml.Marshal(file)
	return string(text), err
}

// Every configuration in the documentation, or part of one, is what the parser takes, and
// gives no warning. `onevoice check` does no more.
func TestCheckConfigurationsOfTheDocs(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```toml[^\n]*\n(.*?)^```$")
	n := 0
	for _, page := range pagesOfDocs(t) {
		if filepath.Base(page) == "configuration.md" {
			continue // made of the reference, key by key
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		// The README's stands in a list.
		for _, m := range block.FindAllStringSubmatch(strings.ReplaceAll(string(b), "\n   ", "\n"), -1) {
			n++
			file, err := whole(t, m[1])
			if err != nil {
				t.Errorf("%s: %v in\n%s", page, err, m[1])
				continue
			}
			c, err := config.Parse(page, []byte(file), "unix1")
			if err != nil {
				t.Errorf("%v in\n%s", err, m[1])
			} else if len(c.Warnings) > 0 {
				t.Errorf("%s: %q in\n%s", page, c.Warnings, m[1])
			}
		}
	}
	if n < 12 {
		t.Errorf("only %d configurations were found", n)
	}
}

// callsIn are the calls of the program in a page: in blocks of code, and, without their
// arguments often, in words.
func callsIn(text string) (whole, partial []string) {
	call := regexp.MustCompile(`(?:^|[#$|;(] ?|-- |=)(?:\./)?onevoice ((?:[a-z-]+|--)[^|;>&)]*)`)
	inline := regexp.MustCompile("`(?:\\./)?onevoice ([a-z-][^`]*)`")
	in, text2 := false, ""
	for _, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "```") {
			in = !in && (trimmed == "```console" || trimmed == "```sh" || trimmed == "```bash")
			continue
		}
		if !in && !strings.HasPrefix(line, "    ") {
			text2 += line + "\n"
			continue
		}
		prompt := regexp.MustCompile(`^[a-z0-9]+[#$] `).MatchString(line)
		if in && !prompt {
			continue // what it prints
		}
		line, _, _ = strings.Cut(line, "  #")
		for _, m := range call.FindAllStringSubmatch(trimmedCall(line), -1) {
			whole = append(whole, m[1])
		}
	}
	for _, m := range inline.FindAllStringSubmatch(strings.ReplaceAll(text2, "\n", " "), -1) {
		partial = append(partial, m[1])
	}
	return whole, partial
}

func trimmedCall(line string) string { return strings.Trim(strings.TrimSpace(line), `'"`) }

// Every command in the documentation is one that there is, with flags that it has.
func TestCheckCommandsOfTheDocs(t *testing.T) {
	n := 0
	for _, page := range pagesOfDocs(t) {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		whole, partial := callsIn(string(b))
		for i, call := range append(whole, partial...) {
			n++
			if err := tryCall(call, i < len(whole)); err != nil {
				t.Errorf("%s: onevoice %s: %v", page, call, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d calls were found", n)
	}
}

// tryCall parses a call without running it; one of a block of code has all arguments.
func tryCall(call string, whole bool) error {
	call = strings.TrimSuffix(strings.TrimSpace(call), `\`)
	words := strings.Fields(strings.NewReplacer("…", "", "'", "", `"`, "").Replace(call))
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		if whole || !strings.Contains(err.Error(), "needs an argument") {
			return err
		}
		return nil
	}
	if help, _ := cmd.Flags().GetBool("help"); !whole || help || cmd.Args == nil {
		return nil
	}
	return cmd.Args(cmd, cmd.Flags().Args())
}
