package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// step is one thing that a page of the documentation has its reader do: run a command
// and see what is shown, or write a file.
type step struct {
	line    int
	host    string
	command string
	shown   []string
	file    string
	text    string
}

// readPage takes the steps out of a page. A block of `console` has prompts, HOST# or
// HOST$, with commands after them and what they print below. A block of another kind
// whose fence says HOST:/PATH is that file.
func readPage(t *testing.T, name string) (steps []step) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	prompt := regexp.MustCompile(`^([a-z][a-z0-9]*)[#$] (.*)$`)
	var fence string
	in := false
	for i, line := range strings.Split(string(b), "\n") {
		if head, ok := strings.CutPrefix(line, "```"); ok {
			in = !in
			fence = head
			_, at, isFile := strings.Cut(head, " ")
			if host, path, ok := strings.Cut(at, ":"); in && isFile && ok {
				steps = append(steps, step{line: i + 1, host: host, file: path})
			}
			continue
		}
		last := len(steps) - 1
		switch m := prompt.FindStringSubmatch(line); {
		case !in:
		case strings.Contains(fence, ":"):
			steps[last].text += line + "\n"
		case fence != "console":
		case m != nil:
			steps = append(steps, step{line: i + 1, host: m[1], command: m[2]})
		case last >= 0 && strings.HasSuffix(steps[last].command, "\\"):
			steps[last].command = strings.TrimSuffix(steps[last].command, "\\") + strings.TrimPrefix(line, "> ")
		case last >= 0:
			steps[last].shown = append(steps[last].shown, line)
		}
	}
	return steps
}

// alike is what a shown line allows: … stands for anything, times may be others, the
// stage's timing is calm, and spaces are one.
func alike(shown string) *regexp.Regexp {
	number := regexp.MustCompile(`\b\d+(\.\d+)?( ?(ms|s|m|h|µs)\b)`)
	var b strings.Builder
	for i, part := range strings.Split(strings.TrimSpace(shown), "…") {
		if i > 0 {
			b.WriteString(`.*`)
		}
		part = number.ReplaceAllString(part, "0 ms")
		part = regexp.QuoteMeta(part)
		part = regexp.MustCompile(`\s+`).ReplaceAllString(part, `\s+`)
		b.WriteString(strings.ReplaceAll(part, `0\s+ms`, `[\d.]+ ?(ms|s|m|h|µs)[0-9smh]*`))
	}
	text := strings.Replace(b.String(), `timing\s+lan`, `timing\s+calm`, 1)
	return regexp.MustCompile(`^\s*` + text + `\s*$`)
}

// missing is the first shown line that is not in the output, in this order, or "".
func missing(shown []string, out string) string {
	lines := strings.Split(out, "\n")
	for _, s := range shown {
		if t := strings.TrimSpace(s); t == "" || t == "…" {
			continue
		}
		at := slices.IndexFunc(lines, alike(s).MatchString)
		if at < 0 {
			return s
		}
		lines = lines[at+1:]
	}
	return ""
}

// repeatable are commands that change nothing, or nothing more when they are given
// again: a reader who does not see yet what the page shows gives them again.
func repeatable(command string) bool {
	for _, prefix := range []string{"onevoice status", "onevoice doctor", "onevoice explain", "onevoice flows", "onevoice watch", "onevoice drain", "onevoice undrain", "onevoice reload", "ssh ", "ping ", "journalctl ", "dig ", "curl "} {
		if strings.HasPrefix(command, prefix) {
			return true
		}
	}
	return false
}

// againFor is how long: a busy machine may cost a node its lease, and time.
const againFor = 4 * time.Minute

// calmly is a file as the stage's hosts get it: they share this machine's processors, and
// may be without one for longer than the default's lease lasts.
func calmly(text string) string {
	return strings.Replace(text, "[cluster]\n", "[cluster]\ntiming = \"calm\"\n", 1)
}

// play does one step and complains of what is otherwise than shown.
func (s *stage) play(page string, st step) {
	s.t.Helper()
	where := fmt.Sprintf("%s:%d: %s# %s", page, st.line, st.host, st.command)
	if st.file != "" {
		if code, out := s.on(st.host, "cat > "+st.file, calmly(st.text)); code != 0 {
			s.t.Fatalf("%s:%d: %s cannot be written: %s", page, st.line, st.file, out)
		}
		return
	}
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); ; <-again.C {
		code, out := s.on(st.host, st.command, "")
		lacks := missing(st.shown, out)
		// A page that shows nothing wants success; one that shows something, that.
		if lacks == "" && (code == 0 || len(st.shown) > 0) {
			if testing.Verbose() {
				s.t.Logf("%s\n%s", where, out)
			}
			return
		}
		if !repeatable(st.command) || time.Since(begun) > againFor {
			_, log := s.on(st.host, "tail -30 /run/stage.log", "")
			s.t.Fatalf("%s: exit %d\nthe page shows: %s\nwhile it says:\n%s\nthe daemon's log:\n%s", where, code, lacks, out, log)
		}
	}
}

// TestTutorial follows docs/tutorial.md to the letter, on hosts that are namespaces.
func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("five hosts take their time")
	}
	const page = "../../docs/tutorial.md"
	// As those of TestDemonstration, beside them.
	t.Parallel()
	steps := readPage(t, page)
	s := newStage(t)
	for _, st := range steps {
		s.play("tutorial.md", st)
	}
	if len(steps) < 20 {
		t.Errorf("the page has %d steps only", len(steps))
	}
}

// page is one that TestPage plays.
var page = flag.String("page", "", "the page that TestPage plays, on hosts on which nothing is installed")

// TestPage plays the page that -page names: what a new page is tried with.
func TestPage(t *testing.T) {
	if *page == "" {
		t.Skip("plays the page that -page names: make docs-play PAGE=…")
	}
	s := newStage(t)
	for _, st := range readPage(t, *page) {
		s.play(*page, st)
	}
}
