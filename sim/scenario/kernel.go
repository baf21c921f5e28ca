package scenario

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"onevoice/hashing"
	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
	"onevoice/node"
	"onevoice/node/model"
	"onevoice/sim"
)

// kernel is what of a host outlives its processes on the direct path: the host's own
// TCP, and the programs at the interface with the rows and leases that they were told
// last. It runs while processes stand still, and ends with the host.
//
// The programs are a model: what they ask of rows, lease and sockets is here, and what
// they make of it is node.SteerIn and node.SteerOut, with which `make rulings` compares
// the ones that are loaded. A frame is judged, and what the TCP says to it leaves, in
// one instant, so that Settle has nothing to wait for, but for faults. There are no fragments and no ICMP
// errors. An answer goes to the MAC that the client's last frame came from.
//
// One thing is not held against a kernel, for it cannot be told to forget: TIME-WAIT
// answers a segment with a FIN, which its program has to let in; the client ignores that.
type kernel struct {
	h   *Host
	tcp *model.Kernel
	// programs stand at the interface; nil before any: TCP takes no frame to a group
	// MAC that was not judged.
	programs *programs
	from     map[netip.Addr]sim.MAC
	// told counts what was told to programs.
	told uint64
	// runOn is until when it cannot be told that no program runs which began before.
	runOn time.Duration
}

// kernelTick is how fine the kernel's timers are.
const kernelTick = 50 * time.Millisecond

func (h *Host) newKernel() *kernel {
	k := &kernel{h: h, tcp: model.NewKernel(h.c.World.Rand().Uint32), from: map[netip.Addr]sim.MAC{}}
	k.tick()
	return k
}

func (k *kernel) tick() {
	k.h.c.World.After(kernelTick, func() {
		switch {
		case k.h.kernel != k:
			return
		case !k.h.clock.Frozen():
			k.tcp.Tick(k.h.c.World.Now())
			k.shutSome()
			k.send(netip.AddrPort{}, false)
		}
		k.tick()
	})
}

// shutSome lets the service end its direction of a station's connection first, now and
// then: it is the kernel then that has TIME-WAIT.
func (k *kernel) shutSome() {
	const oneIn = 40 // ticks
	r := k.h.c.World.Rand()
	if k.h.c.o.Stations == 0 || r.IntN(oneIn) > 0 {
		return
	}
	if all := k.tcp.Sockets(); len(all) > 0 {
		k.tcp.Shut(k.h.c.World.Now(), &all[r.IntN(len(all))].Flow)
	}
}

// frame takes a frame that is a service's, and reports whether it is one.
func (k *kernel) frame(frame []byte) bool {
	const tcp = sim.MinFrame + 20
	if binary.BigEndian.Uint16(frame[12:]) != etherIPv4 || len(frame) < tcp+20 || frame[sim.MinFrame+9] != node.TCP {
		return false
	}
	s, ok := sim.ParseSegment(frame)
	if !ok || s.To.Addr() != VIP() || s.To.Port() < servicePort || int(s.To.Port()) >= servicePort+k.h.c.o.Services {
		return false
	}
	if to := sim.MAC(frame); k.programs != nil && (to == k.h.c.clusterMAC(0) || to == sim.MAC(k.h.mac(0))) {
		if k.h.clock.Frozen() {
			k.h.clock.Do(func() { k.take(frame, &s) })
		} else {
			k.take(frame, &s)
		}
	}
	return true
}

func (k *kernel) take(frame []byte, s *sim.Segment) {
	if k.h.kernel != k {
		return
	}
	ruling := k.programs.in(s)
	k.programs.rulings[ruling]++
	if !ruling.Passes() {
		return
	}
	k.from[s.From.Addr()] = s.FromMAC
	k.tcp.Deliver(k.h.c.World.Now(), frame[sim.MinFrame:])
	k.send(s.From, ruling == ingress.PassHeld && s.Has(sim.FIN))
}

// send lets leave what the TCP has sent, as far as the program on the way out lets it.
// late: it follows from a client's segment with a FIN, in a bucket that others may own.
func (k *kernel) send(client netip.AddrPort, late bool) {
	for _, sent := range k.tcp.Take() {
		s := model.Parse(sent.Packet)
		to, ok := k.from[s.Dst.Addr()]
		if k.programs == nil || !ok {
			continue
		}
		if ruling := k.programs.out(&s, sent.Open); ruling != ingress.Elsewhere {
			k.programs.rulings[ruling]++
			continue
		}
		if f := flowOf(s.Dst, s.Src); late && s.Dst == client && k.state(&f) == inetdiag.TimeWait {
			if k.h.lateFINs == nil {
				k.h.lateFINs = map[netip.AddrPort]uint64{}
			}
			k.h.lateFINs[client]++
		}
		own := k.h.mac(0)
		frame := append(append(append([]byte{}, to[:]...), own[:]...), etherIPv4>>8, etherIPv4&0xff)
		k.h.send(append(frame, sent.Packet...))
	}
}

func (k *kernel) state(f *hashing.Flow) inetdiag.State {
	s, _ := k.tcp.Socket(f)
	return s.State
}

func flowOf(client, service netip.AddrPort) hashing.Flow {
	return hashing.Flow{Src: client.Addr(), SrcPort: client.Port(), Dst: service.Addr(), DstPort: service.Port(), Proto: node.TCP}
}

// version changes with what the invariants look at.
func (k *kernel) version() uint64 {
	if k == nil {
		return 0
	}
	return k.told + k.tcp.Changes
}

// programs are those of the direct path that a process has loaded. They have their own
// rows and leases, so that another process's do not change them.
type programs struct {
	programRows
	k        *kernel
	affinity hashing.Affinity
	leases   [ingress.MaxPaths]pageLease
	quiet    time.Duration
	listed   map[uint64]bool
	// asked is a client's last SYN.
	asked map[hashing.Flow]lastSYN
	// running are the rows, and fresh the listed flows, that a program which began before
	// the last Settle may still judge by, or may not have seen. No frame is: they are for
	// the invariants.
	running []programRows
	fresh   map[uint64]bool
	// hash is node.FlowHash.
	hash    func(*hashing.Flow) uint64
	rulings [ingress.RulingCount]uint64
}

// lastSYN is when a SYN came, and its number.
type lastSYN struct {
	at     time.Duration
	number uint32
}

// programRows are rows, by service, and what hashes by their keys.
type programRows struct {
	rows    []ingress.DirectRow
	hashers []hashing.Hasher
}

// row is a service's, and the bucket of a flow.
func (r *programRows) row(service int, f *hashing.Flow, a hashing.Affinity) (row *ingress.DirectRow, bucket uint8) {
	return &r.rows[service], r.hashers[service].Bucket(a, f)
}

// load has the rows that programs begin with: nothing is owned, and there may be
// connections in every bucket.
func (p *programs) load(services int) {
	all := [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	_ = p.Publish(slices.Repeat([]ingress.DirectRow{{Lingering: all}}, services))
}

// attach puts programs at the interface, in the place of those of another process.
func (k *kernel) attach(p *programs) {
	k.programs = p
	k.told++
}

func (p *programs) Publish(rows []ingress.DirectRow) error {
	if p.rows != nil {
		p.running = append(p.running, p.programRows)
	}
	p.programRows = programRows{rows: slices.Clone(rows)}
	for i := range rows {
		p.hashers = append(p.hashers, hashing.NewHasher(hashing.Key(rows[i].Key)))
	}
	p.changed()
	return nil
}

// errRunning says that programs may still run that began before.
var errRunning = errors.New("scenario: programs run on")

func (p *programs) Settle() error {
	if p.k.h.c.World.Now() < p.k.runOn {
		return errRunning
	}
	p.running = nil
	clear(p.fresh)
	return nil
}

func (p *programs) List(hashes []uint64) error {
	for _, h := range hashes {
		p.listed[h], p.fresh[h] = true, true
	}
	p.changed()
	return nil
}

func (p *programs) Unlist(hashes []uint64) error {
	for _, h := range hashes {
		delete(p.listed, h)
	}
	p.changed()
	return nil
}

// changed: a frame may come in now, between two calls.
func (p *programs) changed() {
	p.k.told++
	if p.k.programs == p {
		p.k.h.c.checkLists(p.k.h)
	}
}

func (p *programs) SetLease(path int, begin, end time.Duration) {
	if l := &p.leases[path]; l.begin != begin || l.end != end {
		l.begin, l.end = begin, end
		p.k.told++
	}
}

func (p *programs) Silence(until time.Duration)          { p.quiet = until }
func (p *programs) Rulings() [ingress.RulingCount]uint64 { return p.rulings }
func (p *programs) Before() int                          { return 0 }
func (p *programs) Leave() error                         { return nil }

// lease is the end of a service's.
func (p *programs) lease(service int) time.Duration {
	return p.leases[p.k.h.services[service+1].Path].end
}

// bucket is what a flow's is to the host, as the programs find out: the lease is compared
// with the clock for each frame. ack is what a segment that leaves acknowledges.
func (p *programs) bucket(f *hashing.Flow, ack uint32) (b node.BucketState) {
	service := int(f.DstPort) - servicePort
	row, at := p.row(service, f, p.affinity)
	has := func(bits *[4]uint64) bool { return bits[at/64]&(1<<(at%64)) != 0 }
	b.Lingering = has(&row.Owned) || has(&row.Lingering)
	if p.k.h.clock.Now() >= p.lease(service) {
		return b
	}
	b.Owned, b.Settled = has(&row.Owned), has(&row.Settled)
	b.Excluded = has(&row.Listed) && !p.listed[p.hash(f)]
	began := max(row.Since[at], p.leases[p.k.h.services[service+1].Path].begin)
	asked, ok := p.asked[*f]
	b.Asked = ok && asked.at >= began && asked.number == ack-1 || p.k.h.c.o.Without.LastSYN
	return b
}

// in is the program on the way in.
func (p *programs) in(s *sim.Segment) ingress.Ruling {
	f := flowOf(s.From, s.To)
	ruling := node.SteerIn(s.Flags, p.find(&f, s), p.bucket(&f, 0))
	if ruling == ingress.PassSYN {
		p.asked[f] = lastSYN{p.k.h.clock.Now(), s.Seq}
	}
	return ruling
}

// steerWindow is how far from what a connection expects a segment may be, as in package
// ingress.
const steerWindow = 1 << 25

// find is what the kernel has for a segment.
func (p *programs) find(f *hashing.Flow, s *sim.Segment) node.KernelSocket {
	c, ok := p.k.tcp.Socket(f)
	switch {
	case !ok:
		return node.ListeningSocket
	case c.State == inetdiag.SYNRecv:
		return node.HalfOpenSocket
	case c.State == inetdiag.TimeWait:
		return node.TimeWaitSocket
	case s.Seq-c.Next+steerWindow > 2*steerWindow, s.Has(sim.ACK) && c.Sent-s.Ack+steerWindow > 2*steerWindow:
		return node.DistantSocket
	}
	return node.OpenSocket
}

// out is the program on the way out.
func (p *programs) out(s *model.Segment, open bool) ingress.Ruling {
	f := flowOf(s.Dst, s.Src)
	return node.SteerOut(s.Flags, s.Seq, open, p.k.h.clock.Now() < p.quiet, p.bucket(&f, s.Ack))
}

// accepts are the buckets of a service in which the host's kernel would answer now,
// whatever its processes do.
func (k *kernel) accepts(service int, margin time.Duration) (out [4]uint64) {
	p := k.programs
	if p == nil || k.h.clock.Now() >= p.lease(service)+margin {
		return out
	}
	return p.rows[service].Owned
}

// holding are the buckets of a service, by the hash of another host's programs, in which
// the kernel has connections that began after a time.
func (k *kernel) holding(service int, by *programs, after time.Duration) (out [4]uint64) {
	for s := range k.tcp.All() {
		if int(s.Flow.DstPort) == servicePort+service && s.Since > after {
			b := by.hashers[service].Bucket(by.affinity, &s.Flow)
			out[b/64] |= 1 << (b % 64)
		}
	}
	return out
}
