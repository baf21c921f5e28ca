package scenario

import (
	"encoding/binary"
	"time"

	"onevoice/hashing"
	"onevoice/node"
	"onevoice/node/model"
	"onevoice/sim"
)

// One SYN is answered by one node (S1). A TCP makes its SYN-ACK in its own time and
// repeats it for a minute, and meanwhile the right to answer may go to another node, which
// answers the same SYN, and come back. So a SYN-ACK that leaves a node has to answer a SYN
// that came to it while it had the right, lease and bucket (R10, R12), and which it has had
// without a gap since. What is new after a gap is what the client says then (R13, R17).

// right is what a host may take of a service, and since when; a worker's, or, on the
// direct path, that of its kernel's programs.
type right struct {
	key    hashing.Key
	accept [4]uint64
	// since is the true time from which on a bucket of accept was in it.
	since [hashing.Buckets]time.Duration
	// begin and end are the lease's, on the host's clock: begin is from when on there was
	// one without a gap.
	begin, end time.Duration
	// mine are the buckets that no other host had the right to since this one.
	mine [4]uint64
}

// asking is a SYN.
type asking struct {
	flow hashing.Flow
	seq  uint32
}

// tenant is who last got the right to a bucket from another, and when.
type tenant struct {
	host *Host
	at   time.Duration
}

// tenants are those of a service's buckets, under a key.
type tenants struct {
	key hashing.Key
	of  [hashing.Buckets]tenant
}

// hasBucket reports whether a bucket is in a set.
func hasBucket(set *[4]uint64, b uint8) bool { return set[b/64]&(1<<(b%64)) != 0 }

// noteRights keeps since when the host has which rights. It is called after each event
// that changed its stance.
func (h *Host) noteRights() {
	for len(h.rights) < len(h.c.services) {
		h.rights = append(h.rights, right{})
	}
	for s := 1; s < len(h.c.services); s++ {
		key, accept, lease := h.rightNow(s)
		h.rights[s].set(h.c.World.Now(), key, &accept, lease)
		if h.clock.Now() < lease.end {
			h.c.noteTenants(h, s)
		}
	}
}

// rightNow is what the host has been told last of a service, and until when, on its
// clock. That a worker stands still takes nothing from it, nor that its lease is one of
// newer rights: it may not use that, but nobody else has the bucket before it has written
// back.
func (h *Host) rightNow(s int) (key hashing.Key, accept [4]uint64, lease pageLease) {
	w := &h.worker
	if h.c.o.Direct {
		if h.kernel == nil || h.kernel.programs == nil {
			return key, accept, lease
		}
		// The lease's begin is the page's, whatever the programs were told of it.
		p, begin := h.kernel.programs, h.rights[s].begin
		if w.page != nil && w.page.leases[h.services[s].Path].end == p.lease(s-1) {
			begin = w.page.leases[h.services[s].Path].begin
		}
		return p.rows[s-1].Key, p.rows[s-1].Owned, pageLease{begin: begin, end: p.lease(s - 1)}
	}
	if !w.alive || w.page == nil || w.rights == nil {
		return key, accept, lease
	}
	r := rowsOf(&w.rights.Services[s])
	return r.Key, r.Accept, w.page.leases[h.services[s].Path]
}

// set takes a right as it is now.
func (r *right) set(now time.Duration, key hashing.Key, accept *[4]uint64, lease pageLease) {
	r.begin, r.end = lease.begin, lease.end
	if r.key != key {
		r.key, r.accept, r.mine = key, [4]uint64{}, [4]uint64{}
	}
	if r.accept != *accept {
		for b := range hashing.Buckets {
			if b := uint8(b); hasBucket(accept, b) && !hasBucket(&r.accept, b) {
				r.since[b] = now
			}
		}
		r.accept = *accept
	}
}

// noteTenants: a host has a right, and who had it before has it no more.
func (c *Cluster) noteTenants(h *Host, s int) {
	for len(c.tenants) <= s {
		c.tenants = append(c.tenants, tenants{})
	}
	t, r := &c.tenants[s], &h.rights[s]
	if t.key != r.key {
		*t = tenants{key: r.key}
	}
	for b := range hashing.Buckets {
		b := uint8(b)
		if !hasBucket(&r.accept, b) || hasBucket(&r.mine, b) {
			continue
		}
		if was := t.of[b].host; was != nil {
			was.rights[s].mine[b/64] &^= 1 << (b % 64)
		}
		r.mine[b/64] |= 1 << (b % 64)
		t.of[b] = tenant{h, c.World.Now()}
	}
}

// tcpOf finds the flags of a TCP segment between a client and a service in a frame
// without options of IP.
func (c *Cluster) tcpOf(frame []byte, portAt int) (flags byte, service int, ok bool) {
	const tcp = sim.MinFrame + 20
	if len(frame) < tcp+20 || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 || frame[sim.MinFrame] != 0x45 || frame[sim.MinFrame+9] != node.TCP {
		return 0, 0, false
	}
	service = int(binary.BigEndian.Uint16(frame[tcp+portAt:])) - servicePort + 1
	return frame[tcp+13] & (sim.SYN | sim.ACK | sim.RST | sim.FIN), service, service >= 1 && service < len(c.services)
}

// noteSYN keeps when a SYN came to a host's interface, in a bucket that it accepts in if
// it has a lease.
func (h *Host) noteSYN(frame []byte) {
	flags, service, ok := h.c.tcpOf(frame, 2)
	if !ok || flags != sim.SYN || service >= len(h.rights) {
		return
	}
	s, ok := sim.ParseSegment(frame)
	if !ok || s.To.Addr() != VIP() {
		return
	}
	f := flowOf(s.From, s.To)
	r := &h.rights[service]
	if b := hashing.NewHasher(r.key).Bucket(h.affinity(), &f); !hasBucket(&r.accept, b) {
		return
	}
	if h.syns == nil {
		h.syns = map[asking]time.Duration{}
	}
	h.syns[asking{f, s.Seq}] = h.c.World.Now()
}

// send puts a frame of the host on the first LAN. A SYN-ACK is held to the rule first.
func (h *Host) send(frame []byte) {
	if flags, service, ok := h.c.tcpOf(frame, 0); ok && flags == sim.SYN|sim.ACK && !h.c.fixed {
		if s, ok := sim.ParseSegment(frame); ok {
			h.checkSYNACK(service, &s)
		}
	}
	h.ports[0].Send(frame)
}

// hasRight reports whether the host has the right to a bucket now.
func (h *Host) hasRight(service int, b uint8) bool {
	r := &h.rights[service]
	return hasBucket(&r.accept, b) && h.clock.Now() < r.end && (h.c.o.Direct || h.usable(service, 0))
}

// lateButOurs reports whether a packet is a SYN-ACK for a bucket that is the host's now.
func (h *Host) lateButOurs(packet []byte) bool {
	s := model.Parse(packet)
	f, service := flowOf(s.Dst, s.Src), int(s.Src.Port())-servicePort+1
	return s.Flags == sim.SYN|sim.ACK && h.hasRight(service, hashing.NewHasher(h.rights[service].key).Bucket(h.affinity(), &f))
}

// checkSYNACK: a SYN-ACK answers a SYN that came while this host had the right, and it has
// had it since.
func (h *Host) checkSYNACK(service int, s *sim.Segment) {
	c, now := h.c, h.c.World.Now()
	if service >= len(h.rights) || len(c.Breaches) > 0 {
		return
	}
	f, r := flowOf(s.To, s.From), &h.rights[service]
	b := hashing.NewHasher(r.key).Bucket(h.affinity(), &f)
	began := max(r.since[b], h.clock.When(r.begin))
	asked, ok := h.syns[asking{f, s.Ack - 1}]
	name := c.services[service].Name
	switch {
	case !h.hasRight(service, b):
		c.breach("S1, R12: %s answers a SYN of %v in bucket %d of %s, to which it has no right\n%s", h, s.To, b, name, c.describe())
	case !ok:
		c.breach("S1, R12: %s answers a SYN of %v in bucket %d of %s that never came to it while it accepted there\n%s", h, s.To, b, name, c.describe())
	case asked < c.tenants[service].of[b].at:
		c.breach("S1, R12, R13: %s answers a SYN of %v that came %v ago, and only for %v has it had bucket %d of %s back from another node, which was to answer that SYN\n%s",
			h, s.To, now-asked, now-c.tenants[service].of[b].at, b, name, c.describe())
	case asked < began:
		c.breach("R10, R12: %s answers a SYN of %v that came %v ago, and has had the right to bucket %d of %s for %v: the bucket for %v\n%s",
			h, s.To, now-asked, b, name, now-began, now-r.since[b], c.describe())
	}
}
