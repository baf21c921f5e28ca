package node

import (
	"encoding/binary"
	"net/netip"
)

// listens finds the service of an address and port. A cluster has few, and looking
// through them is several times faster than a map.
type listens struct {
	few  []uint64 // by service
	many map[uint64]int
}

// maxFew is up to how many services are looked through.
const maxFew = 16

// newListens knows the services by their index.
func newListens(services []Service) listens {
	l := listens{many: make(map[uint64]int, len(services))}
	for i := range services {
		k := listenKey(services[i].Listen.Addr(), services[i].Listen.Port())
		l.many[k] = i
		l.few = append(l.few, k)
	}
	if len(l.few) > maxFew {
		l.few = nil
	}
	return l
}

// listenKey is an IPv4 address and a port; no other address is anybody's.
func listenKey(addr netip.Addr, port uint16) uint64 {
	if !addr.Is4() {
		return 0
	}
	a := addr.As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<16 | uint64(port)
}

// find is the service that listens there.
func (l *listens) find(addr netip.Addr, port uint16) (service int, ok bool) {
	k := listenKey(addr, port)
	for i, few := range l.few {
		if few == k {
			return i, true
		}
	}
	if l.few == nil {
		service, ok = l.many[k]
	}
	return service, ok
}
