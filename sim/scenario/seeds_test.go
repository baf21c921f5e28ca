package scenario

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	more      = flag.Int("more", 0, "run so many more seeds of chaos and count them in testdata/seeds.md")
	processes = flag.Int("processes", 2, "in so many processes")
)

// seedsAtOnce is how many seeds a process runs until they are counted.
const seedsAtOnce = 25

const seedsHead = `# Seeds of chaos

Written by ` + "`make seeds N=1000`" + `, which goes on after the last line. A seed is 60 s of
a cluster under any fault and what comes after; its options follow from it. + means
that the sources were not those of the commit alone.

| seeds | commit | breaches |
|---|---|---|
`

// TestMoreSeeds goes on counting seeds. Raft's chance belongs to the process, so
// that seeds run side by side only in processes of their own.
func TestMoreSeeds(t *testing.T) {
	if *more == 0 {
		t.Skip("make seeds N=1000 runs it")
	}
	file := filepath.Join("testdata", "seeds.md")
	text, err := os.ReadFile(file)
	if err != nil {
		text = []byte(seedsHead)
	}
	next := 1
	for _, m := range regexp.MustCompile(`(?m)^\| \d+–(\d+) `).FindAllSubmatch(text, -1) {
		last, _ := strconv.Atoi(string(m[1]))
		next = last + 1
	}
	binary := filepath.Join(t.TempDir(), "seeds.test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commit, began, last := commitNow(), time.Now(), next+*more-1
	for from := next; from <= last; {
		breaches, to := seedsBeside(binary, from, last)
		text = countSeeds(text, from, to, commit, breaches)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, b := range breaches {
			t.Error(b)
		}
		if len(breaches) > 0 {
			return
		}
		fmt.Printf("seeds %d to %d of %d hold, after %v\n", next, to, last, time.Since(began).Round(time.Second))
		from = to + 1
	}
}

// seedsBeside runs the next seeds in processes side by side.
func seedsBeside(binary string, from, last int) (breaches []string, to int) {
	type part struct {
		cmd *exec.Cmd
		out bytes.Buffer
	}
	var parts []*part
	for to = from - 1; to < last && len(parts) < *processes; {
		n := min(seedsAtOnce, last-to)
		p := &part{cmd: exec.Command(binary, "-test.run", "^TestChaos$", "-test.timeout", "1h", "-seed", strconv.Itoa(to+1), "-seeds", strconv.Itoa(n))}
		p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
		// Side by side, each has a processor of its own, and memory to spare.
		p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
		if err := p.cmd.Start(); err != nil {
			return []string{err.Error()}, to
		}
		parts = append(parts, p)
		to += n
	}
	for _, p := range parts {
		if p.cmd.Wait() != nil {
			breaches = append(breaches, p.out.String())
		}
	}
	return breaches, to
}

// countSeeds adds to the last line of the table when it is of the same commit.
func countSeeds(text []byte, from, to int, commit string, breaches []string) []byte {
	if len(breaches) > 0 {
		// Not counted: the next run does these seeds again.
		return fmt.Appendf(text, "| %s | %s | a breach |\n", regexp.MustCompile(`seed \d+`).FindString(breaches[0]), commit)
	}
	same := regexp.MustCompile(fmt.Sprintf(`\| (\d+)–%d \| %s \| none \|\n$`, from-1, regexp.QuoteMeta(commit)))
	if m := same.FindSubmatchIndex(text); m != nil {
		from, _ = strconv.Atoi(string(text[m[2]:m[3]]))
		text = text[:m[0]]
	}
	return fmt.Appendf(text, "| %d–%d | %s | none |\n", from, to, commit)
}

func commitNow() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "no commit"
	}
	commit := strings.TrimSpace(string(out))
	if exec.Command("git", "diff", "--quiet", "HEAD", "--", "../../cluster", "../../hashing", "..", ":!testdata").Run() != nil {
		commit += "+"
	}
	return commit
}

func TestCountSeeds(t *testing.T) {
	text := countSeeds([]byte(seedsHead), 1, 50, "abc", nil)
	text = countSeeds(text, 51, 100, "abc", nil)
	text = countSeeds(text, 101, 150, "def", nil)
	text = countSeeds(text, 151, 200, "def", []string{"chaos_test.go: seed 170, {...}"})
	want := "| 1–100 | abc | none |\n| 101–150 | def | none |\n| seed 170 | def | a breach |\n"
	if got := strings.TrimPrefix(string(text), seedsHead); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
