package node

import (
	"testing"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
)

// The mapping is a part of the ownership: under another key a client has another
// bucket, and flows that are held are found in it (OWNERSHIP.md R3).
func TestR3MappingIsState(t *testing.T) {
	n, flows := newNode(t)
	hold(t, n, flows, 2000, flowstate.Open)
	flow := toFlow(2000)
	fresh := toFlow(2001)
	for _, key := range []hashing.Key{{1}, {2}, {}} {
		bucket := func(f *hashing.Flow) uint8 {
			if key == (hashing.Key{}) {
				return n.hasher.Bucket(n.services[0].Affinity, f)
			}
			h := hashing.NewHasher(key)
			return h.Bucket(n.services[0].Affinity, f)
		}
		b := bucket(&fresh)
		for _, c := range []struct {
			owned bool
			want  Verdict
		}{{true, DeliverSYN}, {false, NotOwner}} {
			var rows Rows
			rows.Key = key
			if c.owned {
				rows.Accept.Set(b)
			} else {
				rows.Accept = allBuckets()
				rows.Accept[b/64] &^= 1 << (b % 64)
			}
			o := &Ownership{Generation: 2, VIPs: []Rows{rows}, Services: []Rows{rows}, LeaseEnd: Forever}
			if err := n.SetOwnership(o); err != nil {
				t.Fatal(err)
			}
			if v := handleLast(n, frame(etherTypeIPv4, in(2001, flagSYN, 7000, 0, nil)).Data); v != c.want {
				t.Errorf("key %x, owned %v: %v, want %v", key[0], c.owned, v, c.want)
			}
			wanted := allBuckets()
			held := n.Held(n.last, 0, &wanted)
			if len(held) == 0 {
				t.Fatalf("key %x: the held flow is in no bucket", key[0])
			}
			for _, h := range held {
				if h.Flows > 0 && h.Bucket != bucket(&flow) {
					t.Errorf("key %x: the held flow is in bucket %d, want %d", key[0], h.Bucket, bucket(&flow))
				}
			}
			if v := handleLast(n, frame(etherTypeIPv4, in(2000, flagACK, clientISN+1, ownISN+1, nil)).Data); v != DeliverHeld {
				t.Errorf("key %x: the held flow's segment: %v", key[0], v)
			}
		}
	}
}
