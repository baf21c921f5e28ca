package node

import (
	"net/netip"
	"testing"

	"onevoice/hashing"
)

// A pinned client goes by its pin's bucket, the longest prefix first, whatever the
// key; others by their hash. The mapping of a flow that is held agrees.
func TestPinnedClients(t *testing.T) {
	pins := []Pin{
		{netip.MustParsePrefix("10.77.0.0/24"), 1}, {netip.MustParsePrefix("10.77.0.101/32"), 2}, {netip.MustParsePrefix("10.77.0.96/28"), 3},
	}
	for _, c := range []struct {
		client string
		bucket int
	}{{"10.77.0.1", 1}, {"10.77.0.101", 2}, {"10.77.0.102", 3}, {"192.0.2.1", -1}} {
		for _, affinity := range []hashing.Affinity{hashing.SourceIP, hashing.SourceIPPort} {
			n, _ := newNode(t)
			n.services[0].Affinity, n.services[0].Pins = affinity, longestFirst(pins)
			f := toFlow(2000)
			f.Src = netip.MustParseAddr(c.client)
			want := uint8(c.bucket)
			if c.bucket < 0 {
				want = n.mappings[0].hasher.Bucket(affinity, &f)
			}
			if got := n.bucketOf(0, &f); got != want {
				t.Errorf("%s by %v: bucket %d, want %d", c.client, affinity, got, want)
			}
		}
	}
	// Only who has the bucket answers.
	n, _ := newNode(t)
	n.services[0].Pins = longestFirst(pins)
	for bucket, want := range map[uint8]Verdict{2: DeliverSYN, 3: NotOwner} {
		var only Bitmap
		only.Set(bucket)
		own(t, n, only, Forever)
		if v := handle(n, frame(etherTypeIPv4, in(2000, flagSYN, clientISN, 0, nil))); v != want {
			t.Errorf("with bucket %d: %v", bucket, v)
		}
	}
}
