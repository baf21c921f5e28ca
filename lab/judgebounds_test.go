package lab

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// What a bound pushes out is said, for nothing can be said of it.
func TestJudgeBounds(t *testing.T) {
	for name, c := range map[string]struct {
		line  func(i int) string
		bound int
		size  func(*Judge) int
	}{
		"flows": {func(i int) string { return fmt.Sprintf("client1 SYN 1 port=%d addr=%d", 1+i%60000, 101+i/60000) }, MaxJudgedFlows,
			func(j *Judge) int { return len(j.flows) }},
		"asks": {func(i int) string { return "client1 ping 1" }, MaxJudgedAsks,
			func(j *Judge) int { return len(j.asks) }},
		"askers": {func(i int) string { return "client1 who-has" }, MaxJudgedAskers,
			func(j *Judge) int { return len(j.asked) }},
	} {
		t.Run(name, func(t *testing.T) {
			j := newTestJudge()
			for i := range c.bound + 10 {
				f := tell(c.line(i))[0]
				switch name {
				case "asks":
					binary.BigEndian.PutUint16(f.capture.Data[38:], uint16(i))
					binary.BigEndian.PutUint16(f.capture.Data[36:], 0)
					binary.BigEndian.PutUint16(f.capture.Data[36:], ^foldedSum(0, f.capture.Data[34:]))
				case "askers":
					binary.BigEndian.PutUint16(f.capture.Data[28:], uint16(i))
				}
				j.Frame(time.Second, f.sender, &f.capture)
				if i+1 == c.bound && (c.size(j) != c.bound || j.Verdict().Counts.Forgotten != 0) {
					t.Fatalf("at the bound: %d kept, %d forgotten", c.size(j), j.Verdict().Counts.Forgotten)
				}
			}
			v := j.Verdict()
			if c.size(j) != c.bound || v.Counts.Forgotten < 10 {
				t.Errorf("%d kept, %d forgotten", c.size(j), v.Counts.Forgotten)
			}
			if v.Held() || v.Err() == nil {
				t.Error("the verdict is that everything held")
			}
		})
	}
}

// The bound of flows is one of memory, too.
func TestFlowsFitIntoMemory(t *testing.T) {
	if size := unsafe.Sizeof(judgedFlow{}); size*MaxJudgedFlows > 128<<20 {
		t.Errorf("%d bytes for each of %d flows", size, MaxJudgedFlows)
	}
}

// Breaches are kept up to the bound and counted beyond it.
func TestBreachBound(t *testing.T) {
	j := judgeStory(strings.Repeat("n1 RST 1\n", MaxBreaches+5))
	v := j.Verdict()
	if len(v.Breaches) != MaxBreaches || v.Rules[RuleResetUnasked] != MaxBreaches+5 {
		t.Errorf("%d kept, %d counted", len(v.Breaches), v.Rules[RuleResetUnasked])
	}
}

// Old flows are forgotten without a word, established ones are not.
func TestExpiry(t *testing.T) {
	j := newTestJudge()
	feed := func(at time.Duration, text string) {
		for _, f := range tell(text) {
			f.feed(j, at)
		}
	}
	feed(0, handshake+"client1 SYN 1 cport=40001 \n client1 SYN 1 cport=40002 \n client1 ping 1")
	for i := range 20 {
		feed(flowMemory+time.Duration(i)*time.Second, "client2 who-has addr=102")
	}
	if len(j.flows) != 1 || len(j.asks) != 1 {
		t.Errorf("%d flows and %d questions in memory, want 1 and 1", len(j.flows), len(j.asks))
	}
	feed(3*flowMemory, "n2 DATA 5001 1001")
	v := j.Verdict()
	if v.Rules[RuleFlowTwoNodes] != 1 {
		t.Errorf("the quiet flow was forgotten: %v", v.Rules)
	}
	if v.Counts.Forgotten != 0 {
		t.Errorf("%d forgotten by a bound", v.Counts.Forgotten)
	}
}
