package house

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Each limit that docs/reliability.md names is a constant of that package, and each test
// that it names is there.
func TestBoundsAreTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	sources := repository(t)
	has := func(folder string, test bool, declared *regexp.Regexp) bool {
		for _, s := range sources {
			if (folder == "" || s.folder() == folder) && s.test() == test && declared.MatchString(s.text) {
				return true
			}
		}
		return false
	}
	rows := 0
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)\\.(\\w+)` \\| ").FindAllStringSubmatch(string(text), -1) {
		rows++
		if !has(m[1], false, regexp.MustCompile(`(?m)^(const |\t)`+m[2]+`\b.* = `)) && !has(m[1], false, regexp.MustCompile(`(?m)^\t`+m[2]+`\s+= `)) {
			t.Errorf("%s has no constant %s", m[1], m[2])
		}
	}
	tests := map[string]bool{}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(text), -1) {
		tests[m[1]] = true
	}
	for name := range tests {
		if !has("", true, regexp.MustCompile(`(?m)^func `+name+`\(`)) {
			t.Errorf("there is no test %s", name)
		}
	}
	if rows < 30 || len(tests) < 60 {
		t.Errorf("only %d limits and %d tests are named", rows, len(tests))
	}
}
