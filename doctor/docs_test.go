package doctor

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/doctor.md has a row for each examination, with what it reads and its codes, and
// one for each code, with what to do; and no others.
func TestDocsHaveAllExaminations(t *testing.T) {
	text, err := os.ReadFile("../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	mends := map[string]bool{}
	_, after, _ := strings.Cut(string(text), "## What is found")
	section, _, _ := strings.Cut(after, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\| ([^|]+) \\|$").FindAllStringSubmatch(section, -1) {
		mends[m[1]] = true
	}
	rows := 0
	for _, e := range Examinations() {
		row := "\n| " + e.Name + " | " + e.Reads + " | `" + strings.Join(e.Codes, "`, `") + "` |\n"
		if strings.Contains(string(text), row) {
			rows++
		} else {
			t.Errorf("docs/doctor.md lacks the row %s", row)
		}
		for _, code := range e.Codes {
			if !mends[code] {
				t.Errorf("docs/doctor.md does not say what to do about %s", code)
			}
			delete(mends, code)
		}
	}
	for code := range mends {
		t.Errorf("docs/doctor.md has %s, which nothing finds", code)
	}
	_, after, _ = strings.Cut(string(text), "## What is looked at")
	section, _, _ = strings.Cut(after, "\n## ")
	if n := strings.Count(section, "\n| ") - 1; n != rows {
		t.Errorf("docs/doctor.md has %d rows of examinations, and there are %d", n, rows)
	}
}
