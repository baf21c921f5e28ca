package node

import (
	"os"
	"regexp"
	"testing"
)

// docs/verdicts.md has each verdict once, and none that there is not.
func TestVerdictsAreOnTheirPage(t *testing.T) {
	b, err := os.ReadFile("../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ..+ \\| .*\\|$").FindAllStringSubmatch(string(b), -1) {
		rows[m[1]]++
	}
	for v := Undecided + 1; v < VerdictCount; v++ {
		if rows[v.String()] != 1 {
			t.Errorf("docs/verdicts.md has %d rows for the verdict %s, want one that says what it was and what to do", rows[v.String()], v)
		}
		delete(rows, v.String())
	}
	for name := range rows {
		t.Errorf("docs/verdicts.md has %s, which is no verdict", name)
	}
}
