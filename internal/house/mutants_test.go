package house

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	allMutants = flag.Bool("mutants", false, "plant every fault of testdata/mutants.txt")
	oneMutant  = flag.String("mutant", "", "plant only faults whose name has this in it")
)

// mutant is a planted fault: one place of a file, and the tests that have to see it.
type mutant struct {
	name, file, pkg, tests string
	old, new               string
}

// readMutants reads testdata/mutants.txt, which describes its own form.
func readMutants(text string) (out []mutant, err error) {
	for i, line := range strings.Split(text, "\n") {
		m := &mutant{}
		if len(out) > 0 {
			m = &out[len(out)-1]
		}
		switch name, isName := strings.CutPrefix(line, "== "); {
		case isName:
			out = append(out, mutant{name: name})
		case line == "" || line[0] == '#' || len(out) == 0 && line == "#":
		case len(out) == 0:
			return nil, fmt.Errorf("line %d: no fault has begun", i+1)
		case strings.HasPrefix(line, "- "):
			m.old += line[2:] + "\n"
		case strings.HasPrefix(line, "+ "):
			m.new += line[2:] + "\n"
		case m.file == "":
			m.file = line
		case m.pkg == "":
			m.pkg, m.tests, _ = strings.Cut(line, " ")
		default:
			return nil, fmt.Errorf("line %d: %q is no part of a fault", i+1, line)
		}
	}
	for i := range out {
		// The place may lie within a line.
		out[i].old, out[i].new = strings.TrimSuffix(out[i].old, "\n"), strings.TrimSuffix(out[i].new, "\n")
	}
	return out, nil
}

func mutantsOfFile(t *testing.T) []mutant {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "mutants.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := readMutants(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// plant is the file with the fault in it; an error when it has no place of its own.
func (m *mutant) plant() (string, error) {
	text, err := os.ReadFile(filepath.Join("..", "..", m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 || m.old == "" || m.old == m.new {
		return "", fmt.Errorf("%s has %q %d times and not once: plant the fault anew", m.file, m.old, n)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

// Every planted fault has its place and its tests, though the faults themselves are
// tried by `make mutants` alone.
func TestPlantedFaultsHaveTheirPlace(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutantsOfFile(t) {
		if names[m.name] {
			t.Errorf("%s: there twice", m.name)
		}
		names[m.name] = true
		if _, err := m.plant(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if !m.hasTests(t) {
			t.Errorf("%s: %s has no test %s", m.name, m.pkg, m.tests)
		}
	}
	if len(names) < 50 {
		t.Errorf("only %d planted faults", len(names))
	}
}

// hasTests reports whether a test of that name is there.
func (m *mutant) hasTests(t *testing.T) bool {
	wanted, err := regexp.Compile(m.tests)
	if err != nil || m.tests == "" {
		t.Fatalf("%s: %q: %v", m.name, m.tests, err)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", m.pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(text, -1) {
			if wanted.Match(name[1]) {
				return true
			}
		}
	}
	return false
}

// TestPlantedFaults plants each fault, and wants the tests that are named for it to
// see it. In a normal run it plants one, which shows that this can be seen at all.
func TestPlantedFaults(t *testing.T) {
	planted, seen := 0, 0
	for _, m := range mutantsOfFile(t) {
		switch {
		case *oneMutant != "" && !strings.Contains(m.name, *oneMutant):
			continue
		case *oneMutant == "" && !*allMutants && m.name != "a reset is answered with a reset":
			continue
		}
		planted++
		t.Run(m.name, func(t *testing.T) {
			if out, red := m.try(t); !red {
				t.Errorf("%s %s does not see it\n%s", m.pkg, m.tests, out)
			} else {
				seen++
				t.Logf("seen by %s: %s", m.pkg, out)
			}
		})
	}
	if planted == 0 {
		t.Error("no fault has that name")
	}
	t.Logf("%d of %d planted faults were seen", seen, planted)
}

// try runs the tests with the fault in place, by an overlay of the sources, and
// reports which of them was the first to see it.
func (m *mutant) try(t *testing.T) (said string, red bool) {
	text, err := m.plant()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := filepath.Abs(filepath.Join("..", "..", m.file))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: filepath.Join(dir, "planted.go")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"planted.go": []byte(text), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Tests of properties write down what has failed.
	failed := filepath.Join("..", "..", m.pkg, "testdata", "rapid")
	if _, err := os.Stat(failed); os.IsNotExist(err) {
		t.Cleanup(func() { os.RemoveAll(failed) })
	}
	cmd := exec.Command("go", "test", "-vet=off", "-short", "-failfast", "-timeout", "5m", "-overlay", filepath.Join(dir, "overlay.json"), "-run", m.tests, m.pkg)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("no tests to run")) {
		t.Fatalf("nothing was tried:\n%s", out)
	}
	return firstRed(string(out)), err != nil
}

// firstRed is what a run of tests says first about a test that failed.
func firstRed(out string) string {
	if f := regexp.MustCompile(`--- FAIL: (\S+)`).FindStringSubmatch(out); f != nil {
		return f[1]
	}
	if f := regexp.MustCompile(`(?m)^panic: .*$`).FindString(out); f != "" {
		return f
	}
	return out
}
