package lab

import (
	"net"
	"testing"
	"time"
)

// Each SYN of a flood is in good order, has a source of its own, also beside those of the
// flood before, and is forgotten with it; two floods at once fit into the judge.
func TestSYNsOfAFlood(t *testing.T) {
	j := newTestJudge()
	const each = int(floodMost * longestFlood / time.Second)
	if 2*each > MaxJudgedFlows*9/10 {
		t.Fatalf("a flood has up to %d SYNs, and %d flows are judged", each, MaxJudgedFlows)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for number := range 2 {
		f := synFlood{to: beatService(), cluster: net.HardwareAddr{3, 0, 0, 0, 0, 1}, mac: mac}
		for i := range each {
			data := f.syn(number*each + i)
			j.Frame(time.Second, Sender{Host: "client1"}, &Capture{Data: data, Bytes: len(data)})
		}
	}
	if len(j.flows) != 2*each {
		t.Errorf("%d SYNs have %d sources", 2*each, len(j.flows))
	}
	if v := j.Verdict(); v.Counts.SYNs != uint64(2*each) || v.Counts.Malformed != 0 || v.Counts.RepeatedSYNs != 0 || !v.Held() {
		t.Errorf("%+v, %v", v.Counts, v.Err())
	}
}
