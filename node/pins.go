package node

import (
	"cmp"
	"net/netip"
	"slices"

	"onevoice/link/ingress"
)

// Pin gives the clients of a prefix a bucket, whatever they hash to.
type Pin struct {
	Clients netip.Prefix
	Bucket  uint8
}

// longestFirst puts pins into the order in which the first that contains a client
// counts.
func longestFirst(pins []Pin) []Pin {
	out := slices.Clone(pins)
	slices.SortStableFunc(out, func(a, b Pin) int { return cmp.Compare(b.Clients.Bits(), a.Clients.Bits()) })
	return out
}

// pinned is the bucket of a client by the first of the pins that contains it.
func pinned(pins []Pin, client netip.Addr) (bucket uint8, ok bool) {
	for i := range pins {
		if pins[i].Clients.Contains(client) {
			return pins[i].Bucket, true
		}
	}
	return 0, false
}

func filteredPins(pins []Pin) (out []ingress.Pin) {
	for _, p := range longestFirst(pins) {
		out = append(out, ingress.Pin(p))
	}
	return out
}
