package scenario

import (
	"net/netip"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
)

// checkDirect is checkService for a service of the direct path. Who is judged is each
// host's kernel, by the rows and the lease that its programs have.
func (c *Cluster) checkDirect(s int) {
	var taken [4]uint64
	var key *[16]byte
	for _, h := range c.Hosts {
		if h.kernel == nil {
			continue
		}
		a := h.kernel.accepts(s, cluster.Guard)
		if a == [4]uint64{} {
			continue
		}
		p := h.kernel.programs
		switch row := &p.rows[s]; {
		case key == nil:
			key = &row.Key
		case *key != row.Key:
			c.breach("the kernel of %s accepts in %s by the key %x, another's by %x\n%s", h, c.services[s+1].Name, row.Key, *key, c.describe())
			return
		}
		for i := range a {
			if taken[i]&a[i] != 0 {
				c.breach("the kernels of two hosts accept in a bucket of %s, %s is one of them\n%s", c.services[s+1].Name, h, c.describe())
				return
			}
			taken[i] |= a[i]
			a[i] &= p.rows[s].Settled[i]
		}
		if o := c.kernelVictim(h, s, a); o != nil {
			c.breach("the kernel of %s may reset a connection of %s in %s, which held a lease %v ago\n%s", h, o, c.services[s+1].Name, c.World.Now()-o.leasedAt, c.describe())
			return
		}
	}
}

// kernelVictim is another host that is alive and whose kernel has a connection in one of
// the buckets.
func (c *Cluster) kernelVictim(h *Host, s int, buckets [4]uint64) *Host {
	if buckets == [4]uint64{} {
		return nil
	}
	for _, o := range c.Hosts {
		if o == h || o.kernel == nil || c.World.Now()-o.leasedAt > lostAfter-slack {
			continue
		}
		if meet(o.kernel.holding(s, h.kernel.programs, o.lostAt), buckets) {
			return o
		}
	}
	return nil
}

// checkLists: while a host's programs run, nobody else's flow may meet a reset for no
// drainer's list had it (R14). A flow that is alive is a connection of another host's
// kernel, whatever its state, or one that a SYN cookie of that kernel may still become.
func (c *Cluster) checkLists(h *Host) {
	if len(c.Breaches) > 0 || h.kernel == nil || h.kernel.programs == nil {
		return
	}
	p := h.kernel.programs
	for s := range c.o.Services {
		if h.clock.Now() >= p.lease(s)+cluster.Guard || !p.lists(s) {
			continue
		}
		for _, o := range c.Hosts {
			if o == h || o.kernel == nil || c.World.Now()-o.leasedAt > lostAfter-slack {
				continue
			}
			if flows := o.kernel.unlisted(s, p, o.lostAt); len(flows) > 0 {
				c.breach("the kernel of %s may reset %v of %s, for no list has it, and its node held a lease %v ago\n%s", h, flows[0], o, c.World.Now()-o.leasedAt, c.describe())
				return
			}
		}
	}
}

// lists reports whether a program may run that takes a bucket of a service for listed.
func (p *programs) lists(service int) bool {
	for i := range p.running {
		if p.running[i].rows[service].Listed != [4]uint64{} {
			return true
		}
	}
	return p.rows[service].Listed != [4]uint64{}
}

// mayExclude reports whether a program may run that takes a flow for one that no drainer
// has: by the rows of now or by some that have not settled, and by a list of which it may
// not have seen all.
func (p *programs) mayExclude(service int, f *hashing.Flow) bool {
	if hash := p.hash(f); p.listed[hash] && !p.fresh[hash] {
		return false
	}
	by := func(r *programRows) bool {
		row, at := r.row(service, f, p.affinity)
		return row.Owned[at/64]&row.Listed[at/64]&(1<<(at%64)) != 0
	}
	for i := range p.running {
		if by(&p.running[i]) {
			return true
		}
	}
	return by(&p.programRows)
}

// cookieLives is how long a SYN cookie counts as one that may come back (R17), by the
// clock of its host.
const cookieLives = 59 * time.Second

// unlisted are the clients of a kernel's flows that another host's programs may exclude,
// and that began after a time, in order.
func (k *kernel) unlisted(service int, by *programs, after time.Duration) (out []netip.AddrPort) {
	look := func(f *hashing.Flow, since time.Duration) {
		if int(f.DstPort) == servicePort+service && since > after && by.mayExclude(service, f) {
			out = append(out, netip.AddrPortFrom(f.Src, f.SrcPort))
		}
	}
	for s := range k.tcp.All() {
		look(&s.Flow, s.Since)
	}
	now := k.h.c.World.Now()
	for f, at := range k.tcp.Cookies() {
		if now-at < cookieLives {
			look(&f, at)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}
