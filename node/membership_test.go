package node

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"onevoice/link"
	"onevoice/responder"
)

// joined is a node in a group.
func joined(t *testing.T) *Node {
	t.Helper()
	n, err := New(Config{
		Own: ownMAC, Address: netip.MustParseAddr("10.77.0.11"), MTU: 1500, Groups: []netip.Addr{netip.MustParseAddr("239.77.0.2")}, Random: rand.New(rand.NewPCG(1, 1)),
		VIPs: []VIP{{VIP: responder.VIP{Addr: netip.MustParseAddr("10.77.0.2"), MAC: clusterMAC}, LAN: netip.MustParsePrefix("10.77.0.0/24")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// groupQuery is a query of IGMPv2 for all groups.
func groupQuery() []byte {
	f := []byte{0x01, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 0x99, 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 77, 0, 1, 224, 0, 0, 1, 0x11, 100, 0, 0, 0, 0, 0, 0}
	put := func(at, from, to int) {
		sum := ^responder.Sum(0, f[from:to])
		f[at], f[at+1] = byte(sum>>8), byte(sum)
	}
	put(24, 14, 34)
	put(36, 34, 42)
	return f
}

// A node answers queries without any lease, for its own port; while it has none, it
// tells of its groups again and again, for the switch may have forgotten them.
func TestNodeReportsItsGroups(t *testing.T) {
	n := joined(t)
	reports := func(from, to time.Duration) (k int) {
		for now := from; now < to; now += MaxIdle {
			k += len(n.Reports(now))
		}
		return k
	}
	if got := reports(0, announceInterval); got != 2 {
		t.Errorf("at the start %d reports, want 2", got)
	}
	if got := reports(announceInterval, 3*announceInterval); got != 4 {
		t.Errorf("without a lease %d reports in two intervals, want 4", got)
	}
	n.SetLease(0, 0, Forever)
	if got := reports(3*announceInterval, unaskedTime); got > 1 {
		t.Errorf("under a lease %d reports that nobody asked for", got)
	}
	// Where there is no querier a switch would forget it.
	if got := reports(unaskedTime, unaskedTime+3*keepInterval); got < 5 || got > 6 {
		t.Errorf("%d reports in three minutes without a querier, want 6", got)
	}
	const at = unaskedTime + 3*keepInterval + announceInterval
	reports(at-announceInterval, at)
	for frame, want := range map[string]Verdict{string(groupQuery()): MembershipQuery, string(append([]byte{0x01, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 0x98}, groupQuery()[12:40]...)): BadMembership} {
		if h := n.Handle(at, &link.Frame{Data: []byte(frame)}); h.Verdict != want || h.Reply != nil || h.Packet != nil {
			t.Errorf("%x: %v, want %v", frame, h.Verdict, want)
		}
	}
	next, ok := n.nextReport()
	if !ok || next <= at || next > at+10*time.Second+1 {
		t.Errorf("the answer is due at %v, %v", next, ok)
	}
	if got := reports(at, at+11*time.Second); got != 1 {
		t.Errorf("a query has %d answers, want 1", got)
	}
	// What the lease was lost by may be that the switch has forgotten the group.
	n.SetLease(0, 0, 0)
	if got := reports(at+11*time.Second, at+11*time.Second+2*MaxIdle); got != 1 {
		t.Errorf("when the lease is lost %d reports at once, want 1", got)
	}
	if got := len(n.LeaveGroups(at)); got != 2 {
		t.Errorf("the leave is told %d times, want 2", got)
	}
	// A tagged frame is of another LAN, and a node in no group reads no IGMP.
	if h := n.Handle(at, &link.Frame{Data: groupQuery(), Tagged: true}); h.Verdict != VLANTag {
		t.Errorf("a tagged query: %v", h.Verdict)
	}
	n.members = nil
	if h := n.Handle(at, &link.Frame{Data: groupQuery()}); h.Verdict != OtherMAC {
		t.Errorf("a query to a node in no group: %v", h.Verdict)
	}
}
