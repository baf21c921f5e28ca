package sim

import (
	"encoding/binary"
	"time"
)

// bpdu is what switches of a spanning tree tell each other: the root they know of,
// what the way there costs, and who says so (802.1D-1998 §8.5.1).
type bpdu struct {
	root   uint64
	cost   uint32
	bridge uint64
	port   uint16
	age    time.Duration // since the root said it, by the hops
	change bool          // addresses are to age fast
}

// before says whether one tells of a better way (802.1D-1998 §8.6.2.2).
func (a bpdu) before(b bpdu) bool {
	switch {
	case a.root != b.root:
		return a.root < b.root
	case a.cost != b.cost:
		return a.cost < b.cost
	case a.bridge != b.bridge:
		return a.bridge < b.bridge
	}
	return a.port < b.port
}

// The configuration BPDU of 802.1D-1998 §9.3.1, behind an 802.2 header:
//
//	0     3     5         6      7       8      16     20       28     30          32        34      36
//	| LLC | 0 0 | version | type | flags | root | cost | bridge | port | message age | max age | hello | forward delay |
//
// Ages are in 1/256 s. A topology change notification ends with its type.
const (
	llcBytes    = 3
	bpduBytes   = 35
	typeConfig  = 0
	typeChange  = 0x80
	flagChange  = 0x01
	ageOfHop    = time.Second
	bpduAgeUnit = time.Second / 256
)

func bpduFrame(mac MAC, m *bpdu, o *SpanningTree) []byte {
	b := bpduHeader(mac, llcBytes+bpduBytes)
	flags := byte(0)
	if m.change {
		flags = flagChange
	}
	b = append(b, 0, 0, 0, typeConfig, flags)
	b = binary.BigEndian.AppendUint64(b, m.root)
	b = binary.BigEndian.AppendUint32(b, m.cost)
	b = binary.BigEndian.AppendUint64(b, m.bridge)
	b = binary.BigEndian.AppendUint16(b, m.port)
	for _, d := range []time.Duration{m.age, o.MaxAge, treeHello, o.ForwardDelay} {
		b = binary.BigEndian.AppendUint16(b, uint16(d/bpduAgeUnit))
	}
	return b
}

func changeFrame(mac MAC) []byte { return append(bpduHeader(mac, llcBytes+4), 0, 0, 0, typeChange) }

func bpduHeader(mac MAC, length uint16) []byte {
	return append(appendEthernet(make([]byte, 0, 60), treeMAC(), mac, length), 0x42, 0x42, 3)
}

func treeMAC() MAC { return MAC{0x01, 0x80, 0xc2} }

// parseBPDU reads either kind; m is nil for a notification.
func parseBPDU(frame []byte) (m *bpdu, ok bool) {
	b := frame[MinFrame:]
	if len(b) < llcBytes+4 || [3]byte(b) != [3]byte{0x42, 0x42, 3} || binary.BigEndian.Uint16(b[3:]) != 0 {
		return nil, false
	}
	if b = b[llcBytes:]; b[3] == typeChange {
		return nil, true
	}
	if b[3] != typeConfig || len(b) < bpduBytes {
		return nil, false
	}
	return &bpdu{
		change: b[4]&flagChange != 0, root: binary.BigEndian.Uint64(b[5:]), cost: binary.BigEndian.Uint32(b[13:]),
		bridge: binary.BigEndian.Uint64(b[17:]), port: binary.BigEndian.Uint16(b[25:]),
		age: time.Duration(binary.BigEndian.Uint16(b[27:])) * bpduAgeUnit,
	}, true
}

// hear takes in what comes to a trunk's end.
func (b *treeBridge) hear(o *outlet, frame []byte) {
	m, ok := parseBPDU(frame)
	switch {
	case !ok:
		o.count(DroppedReserved)
	case m == nil:
		b.topologyChanged() // told by a switch further from the root
	case m.age >= b.maxAge():
	case b.take(o, *m):
		b.update()
		if o == b.rootPort {
			if m.change {
				b.changeHeard()
			}
			b.speak(m.age + ageOfHop)
		}
	case o.tree.chosen && o != b.rootPort:
		b.say(o, b.age()) // it tells of a worse way: it is told of ours
	}
}

// changeHeard is the root's word that the tree has changed.
func (b *treeBridge) changeHeard() {
	if b.o.Rapid && !b.changing() {
		clear(b.s.table)
	}
	b.changeUntil = b.now() + 2*treeHello
}

// take keeps a word that is better than what is known at this end, or is from the
// same end as that, until it is too old.
func (b *treeBridge) take(o *outlet, m bpdu) bool {
	if h := o.tree.heard; h != nil && h.before(m) && (h.bridge != m.bridge || h.port != m.port) {
		return false
	}
	o.tree.heard = &m
	o.tree.expiry.Stop()
	o.tree.expiry = b.s.lan.w.After(b.maxAge()-m.age, func() {
		o.tree.heard = nil
		b.update()
	})
	return true
}

func (b *treeBridge) maxAge() time.Duration {
	if b.o.Rapid {
		return rapidMaxAge
	}
	return b.o.MaxAge
}

// age is that of what the switch knows of the root.
func (b *treeBridge) age() time.Duration {
	if b.rootPort == nil {
		return 0
	}
	return b.best.age + ageOfHop
}

// sayHello is the root's word, every hello time.
func (b *treeBridge) sayHello() {
	b.hello.Stop()
	if b.rootPort == nil {
		b.speak(0)
	}
	b.hello = b.s.lan.w.After(treeHello, b.sayHello)
}

// speak says out of each end that leads away from the root what is known of it.
func (b *treeBridge) speak(age time.Duration) {
	for _, o := range b.s.outlets {
		if o.trunk != nil && o.tree.chosen && o != b.rootPort {
			b.say(o, age)
		}
	}
}

func (b *treeBridge) say(o *outlet, age time.Duration) {
	m := b.vector(o)
	m.age, m.change = age, b.now() < b.tellUntil || b.rootPort != nil && b.changing()
	b.s.emitOwn(o, bpduFrame(b.s.mac(), &m, &b.o))
}

// emitOwn sends a frame of the switch's own out of one port.
func (s *Switch) emitOwn(o *outlet, frame []byte) {
	s.emit(o, transit{from: s.self, path: 1 << s.number}, frame)
}
