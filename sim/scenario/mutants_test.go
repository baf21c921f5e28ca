package scenario

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	allMutants = flag.Bool("mutants", false, "try every planted fault, not only a few")
	update     = flag.Bool("update", false, "rewrite goldens and tables")
	only       = flag.String("mutant", "", "try only planted faults whose name has this in it")
)

// mutantSeeds is how many seeds a planted fault has to be found in; one of the direct path in
// a fifth of these, for they are longer.
const mutantSeeds = 100

// harmlessSeeds is how many those get that nothing is to see.
const harmlessSeeds = 20

// tried is what became of a planted fault.
type tried struct {
	mutant
	by   string // the test that saw it
	seed int    // for chaos
	said string
}

// TestMutants plants faults into the cluster core, one at a time, by an overlay
// of its sources, and wants the tests of this package to see each: a simulator
// that finds nothing may be one that cannot.
func TestMutants(t *testing.T) {
	if os.Getenv("ONEVOICE_MUTANT") != "" {
		t.Skip("this is a mutant's own run")
	}
	var results []tried
	// One that a test of a rule sees within a second stands for all in a normal run;
	// building each takes half a minute.
	quick := []string{"no self-fence"}
	for _, m := range mutants() {
		switch {
		case *only != "" && !strings.Contains(m.name, *only):
			continue
		case *only == "" && !*allMutants && !slices.Contains(quick, m.name):
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			r := try(t, m)
			results = append(results, r)
			switch {
			case r.by == "" && m.harmless == "":
				t.Errorf("nothing sees it: %s", m.why)
			case r.by != "" && m.harmless != "":
				t.Errorf("%s sees it (%s), and it is said to be harmless: %s", r.by, r.said, m.harmless)
			}
			t.Logf("%s, seed %d: %s", r.by, r.seed, r.said)
		})
	}
	if *update && *allMutants {
		writeMutants(t, results) // of those that were not tried the row stays
	}
}

// try builds the tests with a fault planted, and runs them.
func try(t *testing.T, m mutant) tried {
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join("..", "..", "cluster", e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if replace[path] != "" {
			from = replace[path]
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), e.old); n != 1 {
			t.Fatalf("%s has %q %d times and not once: plant the fault anew", e.file, e.old, n)
		}
		replace[path] = filepath.Join(dir, filepath.Base(e.file))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
	seeds := mutantSeeds
	if m.harmless != "" {
		seeds = harmlessSeeds
	}
	runs := []string{"^TestR", "^TestFrames", "^TestWhole", "^TestChaos$"}
	if m.run != "" {
		runs = []string{m.run}
	}
	for _, run := range runs {
		if by, seed, said := runMutant(binary, run, seeds); by != "" {
			return tried{m, by, seed, said}
		}
	}
	return tried{mutant: m}
}

func runMutant(binary, run string, seeds int) (by string, seed int, said string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", run, "-test.failfast", "-seeds", strconv.Itoa(seeds), "-frames", strconv.Itoa(seeds), "-direct", strconv.Itoa(seeds/5))
	cmd.Env = append(os.Environ(), "ONEVOICE_MUTANT=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", 0, ""
	}
	text := string(out)
	by = "?"
	if f := regexp.MustCompile(`--- FAIL: (\w+)`).FindStringSubmatch(text); f != nil {
		by = f[1]
	}
	if all := regexp.MustCompile(`seed (\d+), \{.*?\}: ([^\n]*)(\n        [^\n]*)?`).FindAllStringSubmatch(text, -1); all != nil {
		f := all[len(all)-1]
		seed, _ = strconv.Atoi(f[1])
		if by == "TestFrames" || by == "TestDirectChaos" {
			f[2] += f[3]
		}
		return by, seed, strings.Join(strings.Fields(f[2]), " ")
	}
	if f := regexp.MustCompile(`(?m)^panic: ([^\n]*)`).FindStringSubmatch(text); f != nil {
		return by, 0, "panic: " + f[1]
	}
	if f := regexp.MustCompile(`_test\.go:\d+: ([^\n]*)`).FindStringSubmatch(text); f != nil {
		return by, 0, f[1]
	}
	return by, 0, "it did not end"
}

// writeMutants keeps what became of all in a table.
func writeMutants(t *testing.T, results []tried) {
	file := filepath.Join("testdata", "mutants.md")
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(old)) {
		if cells := strings.SplitN(line, " | ", 2); len(cells) == 2 {
			rows[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	clean := regexp.MustCompile(`\([0-9a-f]{6,}\)|^[0-9.]+s: |\|`)
	for _, r := range results {
		seed := "–"
		if r.seed > 0 {
			seed = strconv.Itoa(r.seed)
		}
		if r.by == "" {
			r.by, r.said = "nothing", r.harmless
		}
		rows[r.name] = fmt.Sprintf("| %s | %s | %s | %s | %s |\n", r.name, r.why, r.by, seed, strings.TrimSpace(clean.ReplaceAllString(r.said, "")))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Planted faults\n\nWritten by `make mutants`: each fault is planted alone, into the cluster core, the\ngate or what is behind it, and the tests of this package have to see it, chaos within %d seeds.\n\n| fault | what is wrong | seen by | seed | as |\n|---|---|---|---|---|\n", mutantSeeds)
	for _, m := range mutants() {
		b.WriteString(rows[m.name])
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every planted fault has its place: what it changes is there, once, though the faults
// themselves are tried by `make mutants` alone.
func TestMutantsHaveTheirPlace(t *testing.T) {
	if os.Getenv("ONEVOICE_MUTANT") != "" {
		t.Skip("this is a mutant's own run")
	}
	for _, m := range mutants() {
		for _, e := range m.edits {
			text, err := os.ReadFile(filepath.Join("../../cluster", e.file))
			if err != nil {
				t.Error(err)
			} else if n := strings.Count(string(text), e.old); n != 1 {
				t.Errorf("%s: %s has its place %d times: %q", m.name, e.file, n, e.old)
			}
		}
	}
}
