package lab

import (
	"bytes"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tooWide finds lines that a terminal of 80 columns would break.
func tooWide(text string) (lines []string) {
	for l := range strings.Lines(text) {
		if len([]rune(strings.TrimSuffix(l, "\n"))) > columns {
			lines = append(lines, l)
		}
	}
	return lines
}

// Every rule belongs to one claim of the narration.
func TestClaimsCoverEveryRule(t *testing.T) {
	source, err := os.ReadFile("judgereport.go")
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[Rule]int{}
	for _, c := range claims() {
		for _, r := range c.rules {
			claimed[r]++
		}
	}
	names := regexp.MustCompile(`Rule\w+ +Rule = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) != len(claimed) {
		t.Errorf("%d rules, %d of them in claims", len(names), len(claimed))
	}
	for _, n := range names {
		if claimed[Rule(n[1])] != 1 {
			t.Errorf("%s is in %d claims", n[1], claimed[Rule(n[1])])
		}
	}
}

// The verdict on every breach is told within 80 columns, as a claim that did
// not hold.
func TestTellVerdict(t *testing.T) {
	for name, c := range breachStories() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := newNarrator(&out, false)
			judgeStory(c.text).Verdict().tell(n)
			broken := 0
			for line := range strings.Lines(out.String()) {
				// That a SYN was not answered is told, too, but is no broken rule.
				if strings.HasPrefix(line, "  NO  ") && !strings.Contains(line, "SYNs were answered") {
					broken++
				}
			}
			if n.err() == nil || broken != 1 {
				t.Errorf("claims that did not hold: %v\n%s", n.err(), out.String())
			}
			if !strings.Contains(out.String(), string(c.want)) {
				t.Errorf("the rule %s is not named:\n%s", c.want, out.String())
			}
			if wide := tooWide(out.String()); len(wide) > 0 {
				t.Errorf("too wide: %q", wide)
			}
		})
	}
}

func TestTellHeld(t *testing.T) {
	var out bytes.Buffer
	n := newNarrator(&out, false)
	judgeStory(handshake).Verdict().tell(n)
	if n.err() != nil || strings.Contains(out.String(), "NO") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%v\n%q", n.err(), out.String())
	}
	lost := judgeStory(handshake).Verdict()
	lost.Lost = 1
	for name, v := range map[string]*Verdict{"a lost frame": lost, "a SYN without an answer": judgeStory("client1 SYN 1000").Verdict()} {
		n := newNarrator(&out, false)
		if v.tell(n); n.err() == nil {
			t.Errorf("%s is not told", name)
		}
	}
}

// Progress is for terminals, and gone when the next line comes.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	n := newNarrator(&out, false)
	n.progress("half")
	n.say("done")
	if out.String() != "  done\n" {
		t.Errorf("not on a terminal: %q", out.String())
	}
	out.Reset()
	n.live = true
	n.progress("%s", strings.Repeat("x", 200))
	n.say("done")
	if !strings.HasSuffix(out.String(), "\r  done\n") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("on a terminal: %q", out.String())
	}
	for _, part := range strings.Split(out.String(), "\r") {
		if len(part) >= columns {
			t.Errorf("%d columns, which wrap", len(part))
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct{ part, whole, full int }{{0, 64, 0}, {64, 64, 32}, {16, 64, 8}, {1, 64, 1}, {3, 0, 0}} {
		if got := bar(c.part, c.whole); strings.Count(got, "#") != c.full || len(got) != 32 {
			t.Errorf("%d of %d: %s", c.part, c.whole, got)
		}
	}
}

// What sshd and our own server write, as the demonstration reads it.
func TestNoteAddress(t *testing.T) {
	for line, want := range map[string]string{
		"root from 10.77.0.101 port 40000 ssh2: ED25519 SHA256:x": "10.77.0.101",
		"root from 10.77.0.102:40000":                             "10.77.0.102",
		"root from":                                               "",
		"nonsense":                                                "",
	} {
		seen := map[netip.Addr]bool{}
		noteAddress(seen, line)
		got := ""
		for a := range seen {
			got = a.String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// What the probes ask is what the judge takes for a question, checksums and all.
func TestProbesAskWell(t *testing.T) {
	mac, from := macOf("client1"), netip.MustParseAddr("10.77.0.101")
	j := newTestJudge()
	for _, b := range [][]byte{arpQuestion(mac[:], from), echoQuestion(ClusterMAC(), mac[:], from)} {
		j.Frame(time.Second, Sender{Host: "client1"}, &Capture{Data: b, Bytes: len(b)})
	}
	if a, e := j.ARPAnswers(from), j.EchoAnswers(from); a.Asked != 1 || e.Asked != 1 {
		t.Errorf("ARP %+v, echo %+v, %+v", a, e, j.Verdict().Counts)
	}
}

func TestSoakTolerance(t *testing.T) {
	before := Usage{FDs: 20, Goroutines: 40, HeapBytes: 10 << 20}
	for _, c := range []struct {
		name  string
		after Usage
		near  bool
	}{
		{"the same", before, true},
		{"less", Usage{FDs: 10, Goroutines: 10, HeapBytes: 1 << 20}, true},
		{"5 % more", Usage{FDs: 21, Goroutines: 42, HeapBytes: 10<<20 + 512<<10}, true},
		{"a descriptor too many", Usage{FDs: 22, Goroutines: 40, HeapBytes: 10 << 20}, false},
		{"goroutines too many", Usage{FDs: 20, Goroutines: 43, HeapBytes: 10 << 20}, false},
		{"heap too large", Usage{FDs: 20, Goroutines: 40, HeapBytes: 11 << 20}, false},
	} {
		if got := before.near(c.after); got != c.near {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
