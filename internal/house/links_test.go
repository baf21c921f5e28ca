package house

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// markdown is the pages of the repository, by their names from its root.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "dist" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".md") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		out[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil || len(out) < 10 {
		t.Fatalf("%d pages were found, %v", len(out), err)
	}
	return out
}

// prose is a page without its blocks of code.
func prose(text string) string {
	var out []string
	in := false
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			in = !in
			continue
		}
		if !in && !strings.HasPrefix(line, "    ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// anchors are what links can name in a page, as GitHub makes them of its headings:
// lower case, without punctuation, hyphens for spaces, and a number when it is there
// twice.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, line := range strings.Split(prose(text), "\n") {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				b.WriteRune(r)
			}
		}
		name := b.String()
		for n := 1; out[name]; n++ {
			name = fmt.Sprintf("%s-%d", b.String(), n)
		}
		out[name] = true
	}
	return out
}

// deadLinks are those of a page that lead nowhere in the repository.
func deadLinks(name string, pages map[string]string, exists func(string) bool) (out []string) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("`[^`\n]*`")
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(prose(pages[name]), "code"), -1) {
		to, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(to, "://") {
			continue
		}
		target := name
		if to != "" {
			target = path.Join(path.Dir(name), to)
		}
		page, isPage := pages[target]
		switch {
		case !isPage && !exists(target):
			out = append(out, fmt.Sprintf("%s: there is no %s", name, m[1]))
		case anchor != "" && !anchors(page)[anchor]:
			out = append(out, fmt.Sprintf("%s: %s has no heading #%s", name, target, anchor))
		}
	}
	return out
}

// Links between pages, and to headings in them, lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := markdown(t)
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name)))
		return err == nil && !strings.HasPrefix(name, "../")
	}
	for name := range pages {
		for _, dead := range deadLinks(name, pages, exists) {
			t.Error(dead)
		}
	}
	made := map[string]string{"docs/a.md": "# A b, c\n# A b, c\n[x](#a-b-c-1) [x](b.md#n) [x](b.md#m) [x](c.md) [y](#a-b) `[z](d.md)`\n\n    [x](e.md)\n", "docs/b.md": "## N\n"}
	if dead := deadLinks("docs/a.md", made, func(string) bool { return false }); len(dead) != 3 {
		t.Errorf("dead links of the made page: %q", dead)
	}
}

// Whoever comes to the README finds each page from there, by its links or by those of
// what it links to.
func TestEveryPageIsFoundFromTheREADME(t *testing.T) {
	pages := markdown(t)
	link := regexp.MustCompile(`\]\(([^)\s#]+)`)
	found, look := map[string]bool{}, []string{"README.md"}
	for len(look) > 0 {
		name := look[0]
		look = look[1:]
		if found[name] {
			continue
		}
		found[name] = true
		for _, m := range link.FindAllStringSubmatch(pages[name], -1) {
			look = append(look, path.Join(path.Dir(name), m[1]))
		}
	}
	for name := range pages {
		if !found[name] && strings.HasPrefix(name, "docs/") {
			t.Errorf("no links lead from README.md to %s", name)
		}
	}
}
