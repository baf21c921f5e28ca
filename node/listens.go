package node

import (
	"cmp"
	"fmt"
	"slices"
)

// IP protocols of a Service.
const (
	TCP = protoTCP
	UDP = protoUDP
)

// listens finds the service of a VIP's protocol and port. By VIP, in the order of
// their ports: to look through a few is several times faster than a map.
type listens [][]listened

// listened are the ports of a service: those from first to last, each the protocol
// and the port below it.
type listened struct {
	first, last uint32
	service     int
}

func protoPort(proto uint8, port uint16) uint32 { return uint32(proto)<<16 | uint32(port) }

// newListens knows the services by their index, each with the VIP that vip finds
// for its address. A service on another address, and two on one port, are an error.
func newListens(vips []VIP, services []Service) (listens, error) {
	l := make(listens, len(vips))
	for i := range services {
		s := &services[i]
		vip := slices.IndexFunc(vips, func(v VIP) bool { return v.Addr == s.Listen.Addr() })
		if vip < 0 {
			return nil, fmt.Errorf("node: service on %s, which is not a VIP", s.Listen)
		}
		last := max(s.LastPort, s.Listen.Port())
		l[vip] = append(l[vip], listened{protoPort(s.Proto, s.Listen.Port()), protoPort(s.Proto, last), i})
	}
	for _, rows := range l {
		slices.SortFunc(rows, func(a, b listened) int { return cmp.Compare(a.first, b.first) })
		for i := 1; i < len(rows); i++ {
			if rows[i].first <= rows[i-1].last {
				return nil, fmt.Errorf("node: two services on %s", services[rows[i].service].Listen)
			}
		}
	}
	return l, nil
}

// find is the service that listens on that port of the VIP with that index.
func (l listens) find(vip int, proto uint8, port uint16) (service int, ok bool) {
	if vip < 0 {
		return 0, false
	}
	k, rows := protoPort(proto, port), l[vip]
	// The first row that ends at the port or behind it.
	from, to := 0, len(rows)
	for from < to {
		if at := int(uint(from+to) / 2); rows[at].last < k {
			from = at + 1
		} else {
			to = at
		}
	}
	if from < len(rows) && rows[from].first <= k {
		return rows[from].service, true
	}
	return 0, false
}

// placesOf is, for each service, how many of its protocol come before it: TCP and UDP
// are served by parts that do not know of each other's, nor of those of the direct path.
func placesOf(services []Service) []int {
	next, out := map[uint8]int{}, make([]int, len(services))
	for i := range services {
		out[i] = next[services[i].Proto]
		if !services[i].Direct {
			next[services[i].Proto]++
		}
	}
	return out
}
