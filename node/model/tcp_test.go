package model

import (
	"net/netip"
	"testing"
	"time"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

var (
	client = netip.MustParseAddrPort("10.77.0.101:40000")
	vip    = netip.MustParseAddrPort("10.77.0.2:22")
)

// talk delivers segments and returns the last answer, if any.
func talk(t *TCP, now time.Duration, flags uint8, seq, ack uint32, payload int) (Segment, bool) {
	t.Deliver(now, Packet(&Segment{Src: client, Dst: vip, Flags: flags, Seq: seq, Ack: ack, Payload: payload}))
	out := t.Take()
	if len(out) == 0 {
		return Segment{}, false
	}
	return Parse(out[len(out)-1]), true
}

// The model has the manners of netstack that make a gate necessary.
func TestModelResetsWhatItDoesNotKnow(t *testing.T) {
	flow := hashing.Flow{Src: client.Addr(), SrcPort: client.Port(), Dst: vip.Addr(), DstPort: vip.Port(), Proto: protoTCP}
	numbers := uint32(1000)
	m := New(func() uint32 { numbers += 1000; return numbers })
	if s, ok := talk(m, 0, flagACK, 5, 77, 10); !ok || s.Flags != flagRST || s.Seq != 77 {
		t.Errorf("a stray draws %+v", s)
	}
	syn, _ := talk(m, 0, flagSYN, 5, 0, 0)
	if syn.Flags != flagSYN|flagACK || syn.Ack != 6 || m.State(&flow) != flowstate.HalfOpen {
		t.Fatalf("a SYN draws %+v", syn)
	}
	if s, ok := talk(m, 0, flagACK, 6, syn.Seq+2, 0); !ok || s.Flags != flagRST || s.Seq != syn.Seq+2 {
		t.Errorf("an ACK that does not fit draws %+v", s)
	}
	m.Tick(firstRepeat)
	if out := m.Take(); len(out) != 1 || Parse(out[0]) != syn {
		t.Errorf("after a second: %d packets", len(out))
	}
	if s, ok := talk(m, firstRepeat, flagACK, 6, syn.Seq+1, 10); !ok || s.Ack != 16 || m.State(&flow) != flowstate.Open {
		t.Errorf("the ACK with data draws %+v", s)
	}
	if s, ok := talk(m, 2*time.Second, flagACK, 1<<30, syn.Seq+1, 10); !ok || s.Flags != flagACK || s.Ack != 16 {
		t.Errorf("data out of the window draws %+v", s)
	}
	if _, ok := talk(m, 2*time.Second, flagACK, 1<<30, syn.Seq+1, 10); ok {
		t.Error("challenges are not limited")
	}
	m.Finish(&flow)
	m.Take()
	talk(m, 2*time.Second, flagFIN|flagACK, 16, syn.Seq+2, 0)
	if m.State(&flow) != flowstate.TimeWait {
		t.Errorf("after both FINs: %v", m.State(&flow))
	}
	m.Tick(2*time.Second + timeWait)
	if m.State(&flow) != flowstate.None || len(m.Flows()) != 0 {
		t.Error("TIME-WAIT does not end")
	}
	m.Backlog = 0
	cookie, _ := talk(m, 10*time.Second, flagSYN, 50, 0, 0)
	if m.State(&flow) != flowstate.None {
		t.Error("a cookie holds a flow")
	}
	if again, _ := talk(m, 11*time.Second, flagSYN, 50, 0, 0); again != cookie {
		t.Errorf("the same SYN draws the cookies %d and %d", cookie.Seq, again.Seq)
	}
	talk(m, 11*time.Second, flagACK, 51, cookie.Seq+1, 0)
	if m.State(&flow) != flowstate.Open {
		t.Error("a cookie's ACK opens nothing")
	}
	m.End(&flow)
	if out := m.Take(); len(out) != 1 || Parse(out[0]).Flags != flagRST|flagACK || m.State(&flow) != flowstate.None {
		t.Errorf("an end makes %d packets", len(out))
	}
}
