package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the folders of the house from the ground up, as ARCHITECTURE.md
// has them. A folder imports from floors below its own.
func floors() map[string]int {
	out := map[string]int{}
	for floor, folders := range [][]string{
		{"link", "link/egress", "link/ingress", "link/local", "proxy", "health", "internal/netns", "internal/page", "internal/poller", "internal/boottime", "internal/rights", "internal/sealed", "internal/journal", "internal/flowstate", "internal/inetdiag", "internal/pcap", "internal/timers", "sim/report"},
		{"admission", "link/tap", "hashing", "responder", "reassembly", "config", "sim", "stack/virtual"},
		{"cluster", "stack", "datagram", "node/model", "migrate"},
		{"node"},
		{"lab", "control"},
		{"admin", "bench", "doctor", "sim/scenario"},
		{"sim/library", "admin/web"},
		{"cmd/onevoice"},
	} {
		for _, f := range folders {
			out[f] = floor
		}
	}
	// The tests of the repository import nothing of it.
	out["internal/house"] = 0
	return out
}

// pure folders have neither clock nor socket.
func pure() []string {
	return []string{"admission", "doctor", "link/tap", "hashing", "responder", "reassembly", "config", "sim", "cluster", "datagram"}
}

const maxLines = 500

// source is one file.
type source struct {
	name string // slash-separated, from the repository's root
	text string
	file *ast.File
	set  *token.FileSet
}

func (s *source) folder() string { return path.Dir(s.name) }
func (s *source) test() bool     { return strings.HasSuffix(s.name, "_test.go") }
func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(n.Pos()).Line)
}

// readSource parses one file.
func readSource(name, text string) (*source, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments)
	return &source{name, text, file, set}, err
}

// repository reads every source. Files are opened by the test itself, so that
// its cached result is not used after one of them has changed.
func repository(t *testing.T) []*source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []*source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		s, err := readSource(filepath.ToSlash(name), string(text))
		out = append(out, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 30 {
		t.Fatalf("only %d sources were found", len(out))
	}
	return out
}

// rule reports what is wrong with a file.
type rule func(s *source) []string

func rules() map[string]rule {
	return map[string]rule{
		"imports":    importsDownhill,
		"gvisor":     onlyStackImportsGVisor,
		"clock":      noClock,
		"init":       noInit,
		"variables":  noVariables,
		"length":     notTooLong,
		"names":      noEmptyNames,
		"unfinished": nothingUnfinished,
	}
}

func importsDownhill(s *source) (out []string) {
	floor, known := floors()[s.folder()]
	if !known {
		return []string{fmt.Sprintf("%s: the folder %s stands on no floor; give it one here and in ARCHITECTURE.md", s.name, s.folder())}
	}
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		folder, ours := strings.CutPrefix(p, "onevoice/")
		if !ours {
			continue
		}
		if to, known := floors()[folder]; !known || to >= floor {
			out = append(out, fmt.Sprintf("%s: %s may not import %s, which is not below it", s.at(i), s.folder(), folder))
		}
	}
	return out
}

func onlyStackImportsGVisor(s *source) (out []string) {
	for _, i := range s.file.Imports {
		if strings.HasPrefix(i.Path.Value, `"gvisor.dev/`) && s.folder() != "stack" && s.folder() != "stack/virtual" {
			out = append(out, fmt.Sprintf("%s: only stack and stack/virtual import gVisor", s.at(i)))
		}
	}
	return out
}

func noClock(s *source) (out []string) {
	if s.test() || !slices.Contains(pure(), s.folder()) {
		return nil
	}
	clock := map[string]bool{"time.Now": true, "time.Since": true, "time.Until": true, "time.After": true, "time.AfterFunc": true,
		"time.Sleep": true, "time.Tick": true, "time.NewTimer": true, "time.NewTicker": true, "unix.ClockGettime": true}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && clock[x.Name+"."+sel.Sel.Name] {
				out = append(out, fmt.Sprintf("%s: %s is pure and takes the time as an argument, yet it uses %s.%s", s.at(n), s.folder(), x.Name, sel.Sel.Name))
			}
		}
		return true
	})
	return out
}

func noInit(s *source) (out []string) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			out = append(out, fmt.Sprintf("%s: no init", s.at(f)))
		}
	}
	return out
}

// noVariables: package variables are errors, proofs of interfaces, or files of
// the repository, which nothing can change.
func noVariables(s *source) (out []string) {
	if s.test() {
		return nil
	}
	for _, d := range s.file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			if t, ok := spec.(*ast.ValueSpec).Type.(*ast.SelectorExpr); ok && fmt.Sprint(t.X) == "embed" && t.Sel.Name == "FS" {
				continue
			}
			for _, name := range spec.(*ast.ValueSpec).Names {
				if n := name.Name; n != "_" && !strings.HasPrefix(n, "err") && !strings.HasPrefix(n, "Err") {
					out = append(out, fmt.Sprintf("%s: the package variable %s could change; make it a constant, a function or a field", s.at(name), n))
				}
			}
		}
	}
	return out
}

func notTooLong(s *source) []string {
	if n := strings.Count(s.text, "\n"); n > maxLines && !s.test() {
		return []string{fmt.Sprintf("%s: %d lines; at most %d, of one topic", s.name, n, maxLines)}
	}
	return nil
}

func noEmptyNames(s *source) []string {
	if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc"}, s.file.Name.Name) {
		return []string{fmt.Sprintf("%s: the package name %s says nothing", s.name, s.file.Name.Name)}
	}
	return nil
}

func nothingUnfinished(s *source) (out []string) {
	word := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for i, line := range strings.Split(s.text, "\n") {
		if word.MatchString(line) {
			out = append(out, fmt.Sprintf("%s:%d: unfinished: %s", s.name, i+1, strings.TrimSpace(line)))
		}
	}
	return out
}

func TestSourcesKeepTheRules(t *testing.T) {
	for _, s := range repository(t) {
		for name, r := range rules() {
			for _, fault := range r(s) {
				t.Errorf("%s: %s", name, fault)
			}
		}
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs, packages := map[string][]string{}, map[string]bool{}
	for _, s := range repository(t) {
		if s.test() {
			continue
		}
		packages[s.folder()] = true
		if s.file.Doc != nil {
			docs[s.folder()] = append(docs[s.folder()], s.name)
		}
	}
	for p := range packages {
		if len(docs[p]) != 1 {
			t.Errorf("package %s has %d docs: %v", p, len(docs[p]), docs[p])
		}
	}
}

// Every `go` statement stands in ARCHITECTURE.md's table of goroutines, by the
// function that starts it, and every row of the table is true.
func TestGoroutinesAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## Goroutines\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no section Goroutines")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| [^|]+ \\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed[m[1]] = false
	}
	for _, s := range repository(t) {
		if s.test() {
			continue
		}
		for _, starter := range starters(s) {
			if _, ok := listed[starter]; !ok {
				t.Errorf("%s: %s starts a goroutine that ARCHITECTURE.md does not list", s.name, starter)
			}
			listed[starter] = true
		}
	}
	for starter, seen := range listed {
		if !seen {
			t.Errorf("ARCHITECTURE.md lists a goroutine of %s, which starts none", starter)
		}
	}
}

// starters are the functions of a file with a `go` statement in them.
func starters(s *source) (out []string) {
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := s.file.Name.Name + "."
		if f.Recv != nil {
			kind := f.Recv.List[0].Type
			if star, ok := kind.(*ast.StarExpr); ok {
				kind = star.X
			}
			name += kind.(*ast.Ident).Name + "."
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				out = append(out, name+f.Name.Name)
			}
			return true
		})
	}
	return out
}

// Each rule is seen to fail on a fault planted for it.
func TestRulesCanFail(t *testing.T) {
	for rule, planted := range map[string][2]string{
		"imports":    {"hashing/x.go", "package hashing\nimport _ \"onevoice/responder\"\n"},
		"gvisor":     {"node/x.go", "package node\nimport _ \"gvisor.dev/gvisor/pkg/tcpip\"\n"},
		"clock":      {"responder/x.go", "package responder\nimport \"time\"\nfunc f() time.Time { return time.Now() }\n"},
		"init":       {"node/x.go", "package node\nfunc init() {}\n"},
		"variables":  {"node/x.go", "package node\nvar cache = map[string]int{}\n"},
		"length":     {"node/x.go", "package node\n" + strings.Repeat("//\n", maxLines)},
		"names":      {"node/x.go", "package util\n"},
		"unfinished": {"node/x.go", "package node\n// TO" + "DO: later\n"},
	} {
		s, err := readSource(planted[0], planted[1])
		if err != nil {
			t.Fatal(err)
		}
		if len(rules()[rule](s)) == 0 {
			t.Errorf("the rule %q does not see %q", rule, planted[1])
		}
	}
	stray, err := readSource("attic/x.go", "package attic\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(importsDownhill(stray)) == 0 {
		t.Error("a folder on no floor was not seen")
	}
	starter, err := readSource("node/x.go", "package node\nfunc (l *Loop) f() { go func() {}() }\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := starters(starter); len(got) != 1 || got[0] != "node.Loop.f" {
		t.Errorf("starters %v", got)
	}
}
