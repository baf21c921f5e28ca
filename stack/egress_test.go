package stack

import (
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Of the room for the largest burst that may leave in a turn, little is kept.
func TestEgressKeepsLittleRoom(t *testing.T) {
	s := &Stack{link: newLinkEndpoint(mtu, func() {})}
	ip := make([]byte, 40)
	ip[0], ip[9], ip[32], ip[33] = 0x45, 6, 0x50, 0x12
	leave := func(packets int) (left int) {
		for range packets {
			var list netstack.PacketBufferList
			p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithData(ip), ReserveHeaderBytes: EthernetBytes})
			p.NetworkHeader().Consume(20)
			p.TransportHeader().Consume(20)
			p.LinkHeader().Push(EthernetBytes)
			list.PushBack(p)
			if _, err := s.link.WritePackets(list); err != nil {
				t.Fatal(err)
			}
			p.DecRef()
		}
		left = len(s.Egress(0))
		s.Release()
		return left
	}
	leave(keptPackets / 2)
	before := heapInUse()
	if n := leave(MaxEgressPackets); n != MaxEgressPackets {
		t.Fatalf("%d of %d leave", n, MaxEgressPackets)
	}
	leave(1)
	if after := heapInUse(); after-before > 256<<10 {
		t.Errorf("a burst of %d packets keeps %d KiB", MaxEgressPackets, (after-before)>>10)
	}
	if n := leave(keptPackets); n != keptPackets {
		t.Errorf("%d of %d leave then", n, keptPackets)
	}
	runtime.KeepAlive(s)
}

// heapInUse is how many bytes are in use, what lies in pools aside: two collections empty them.
func heapInUse() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
