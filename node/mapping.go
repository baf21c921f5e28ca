package node

import (
	"slices"

	"onevoice/hashing"
)

// mapping is how the clients of a service, or of a VIP, find their bucket.
type mapping struct {
	key    hashing.Key
	hasher hashing.Hasher
}

// BucketOf is the bucket of a service's flow under the mapping in force.
func (n *Node) BucketOf(service int, f *hashing.Flow) uint8 { return n.bucketOf(service, f) }

// bucketOf is the bucket of a service's flow under the mapping in force.
func (n *Node) bucketOf(service int, f *hashing.Flow) uint8 {
	s := &n.services[service]
	if s.Pins != nil {
		if bucket, ok := pinned(s.Pins, f.Src); ok {
			return bucket
		}
	}
	if s.Compatible != nil {
		// What the other system does not know New refuses.
		bucket, _ := s.Compatible.Bucket(f)
		return bucket
	}
	return n.mappings[service].hasher.Bucket(s.Affinity, f)
}

// remap puts the keys of an ownership in force. A flow that is held has another
// bucket under another key (OWNERSHIP.md R3).
func (n *Node) remap(o *Ownership) {
	for i := range o.VIPs {
		n.vipMappings[i].set(o.VIPs[i].Key, &n.hasher)
	}
	for i := range o.Services {
		if n.mappings[i].set(o.Services[i].Key, &n.hasher) {
			n.rekeyFilter(i)
			n.rebucket(i)
		}
	}
}

// set reports whether the key is another. The zero key is the node's own.
func (m *mapping) set(key hashing.Key, own *hashing.Hasher) bool {
	if key == m.key {
		return false
	}
	m.key, m.hasher = key, *own
	if key != (hashing.Key{}) {
		m.hasher = hashing.NewHasher(key)
	}
	return true
}

// rebucket finds the buckets of a service's flows anew. Of cookies and of lost
// half-open flows only the old bucket is known, so any bucket may have them.
func (n *Node) rebucket(service int) {
	clear(n.table.count[service][:])
	for _, e := range n.table.order {
		if e.service != service {
			continue
		}
		e.bucket = n.bucketOf(service, &e.flow)
		if !e.muted {
			n.table.count[service][e.bucket]++
		}
	}
	cookie, lost := slices.Max(n.cookiesOf[service][:]), slices.Max(n.lost[service][:])
	for b := range hashing.Buckets {
		n.cookiesOf[service][b], n.lost[service][b] = cookie, lost
	}
}
