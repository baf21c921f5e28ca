package node

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"onevoice/link"
)

// Whatever comes in one turn, no more leaves than there is room for, and what does not
// is counted: echo requests whose answers are cut are the only ones that make more
// frames than they are.
func TestRepliesOfATurnAreBounded(t *testing.T) {
	b := newBench(t)
	ping := cut4(icmp(asker, icmpEcho, make([]byte, 9000)), 3000, 6000)
	const pings = 60
	for i := range pings {
		for _, f := range ping {
			again := *f
			again.Data = bytes.Clone(f.Data)
			again.Data[18], again.Data[19] = byte(i>>8), byte(i) // another datagram
			fixIP(again.Data[14:])
			b.put(noStamp, &again)
		}
	}
	b.turn()
	b.turn()
	full := b.loop.Stats().RepliesFull
	if len(b.device.sent) == 0 || len(b.device.sent) > 2*maxReplies || full == 0 || uint64(len(b.device.sent))+full != pings*7 {
		t.Errorf("%d frames left and %d found no room", len(b.device.sent), full)
	}
}

// A stranger who claims the VIP ten thousand times a second is reported, and neither
// answered nor a flood in the log. Nor are those who ask: each is answered once.
func TestFloodsOfARP(t *testing.T) {
	b := newBench(t)
	var said strings.Builder
	b.loop.log = slog.New(slog.NewTextHandler(&said, nil))
	claim := arpRequest(vipAddr, asker)
	const claims = 10_000
	for range claims {
		b.put(noStamp, claim)
	}
	for range claims / (batchesPerTurn * link.MaxBatch) {
		b.turn()
		b.now += 25 * time.Millisecond
	}
	b.turn()
	counts := b.node.Counts()
	if len(b.device.sent) != 0 || counts[StrangerClaim] != claims || b.node.LastStranger().Address != vipAddr {
		t.Errorf("%d frames answer %d claims; the last is %v", len(b.device.sent), counts[StrangerClaim], b.node.LastStranger())
	}
	if n := strings.Count(said.String(), "\n"); n != 1 {
		t.Errorf("a second of claims is told in %d lines", n)
	}
	for i := range claims {
		b.put(noStamp, arpRequest(netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i%100)}), vipAddr))
	}
	for len(b.device.queue) > 0 {
		b.turn()
	}
	b.turn()
	if n := len(b.device.sent); n != claims {
		t.Errorf("%d answers to %d questions", n, claims)
	}
}
