package sim

import (
	"fmt"
	"slices"
	"time"
)

// Defaults of a switch.
const (
	DefaultAgeing    = 300 * time.Second // IEEE 802.1D-2004, table 7-5
	DefaultTableSize = 8192              // addresses
)

// Switch is one switch of a LAN. It learns the port of each source address, sends
// a frame for a learned address to that port only, and floods all else: unknown
// addresses, and group addresses, broadcast among them (IEEE 802.1D-2004 §7.7 to
// §7.9). An address that spoke last longer ago than Ageing is unknown again. A
// full table learns nothing new until something in it has aged. An address that
// was entered by hand is neither learned nor aged.
//
// As in Linux (net/bridge/br_input.c, br_handle_frame) a frame from a group
// address or from no address goes nowhere, and neither does one for
// 01:80:c2:00:00:01 to 0f, which the switch keeps; 00 it forwards unless it takes
// part in a spanning tree.
type Switch struct {
	Ageing    time.Duration
	TableSize int
	// BlockUnknown, BlockGroups and InspectARP are those of SwitchOptions.
	BlockUnknown, BlockGroups, InspectARP bool

	name     string
	number   int
	isolated bool
	room     int // ports that are still free
	self     *Port
	lan      *LAN
	outlets  []*outlet
	open     []*outlet         // without those in narrow
	narrow   map[MAC]*outlet   // ports of clients, by the one address they want
	table    map[MAC]learned   // looked up and emptied, never ranged over where order shows
	static   map[MAC][]*outlet // what was entered by hand
	snoop    *snooper          // nil: groups are flooded
	tree     *treeBridge       // nil: no spanning tree
	repeats  bool
	storms   bool      // a storm was seen here
	out      []*outlet // room for what forward answers
}

type learned struct {
	at    *outlet
	heard time.Duration
}

// NewSwitch makes a LAN with one learning switch. The Switch is for its settings
// and its table; frames go through the LAN.
func (w *World) NewSwitch() (*LAN, *Switch) {
	l := w.newLAN()
	return l, l.addSwitch(SwitchOptions{Name: "switch", Ports: MaxPorts})
}

// NewHub makes a LAN where every frame reaches all other ports.
func (w *World) NewHub() *LAN {
	l := w.newLAN()
	l.addSwitch(SwitchOptions{Name: "hub", Ports: MaxPorts, Repeats: true})
	return l
}

func (l *LAN) addSwitch(o SwitchOptions) *Switch {
	s := &Switch{
		Ageing: o.Ageing, TableSize: o.TableSize, BlockUnknown: o.BlockUnknown, BlockGroups: o.BlockGroups, InspectARP: o.InspectARP,
		name: o.Name, number: len(l.switches), isolated: o.Isolated, room: o.Ports, lan: l, repeats: o.Repeats,
		self: &Port{Name: o.Name, Index: -1, lan: l}, narrow: map[MAC]*outlet{}, table: map[MAC]learned{}, static: map[MAC][]*outlet{},
	}
	if s.Ageing == 0 {
		s.Ageing = DefaultAgeing
	}
	if s.TableSize == 0 {
		s.TableSize = DefaultTableSize
	}
	if o.Snooping != nil {
		s.snoop = newSnooper(s, *o.Snooping)
	}
	if o.Tree != nil {
		s.tree = newTreeBridge(s, *o.Tree)
	}
	l.switches = append(l.switches, s)
	return s
}

// addOutlet takes a free port.
func (s *Switch) addOutlet() *outlet {
	if s.room == 0 {
		panic(fmt.Sprintf("sim: switch %s has no free port", s.name)) // whoever calls has looked
	}
	s.room--
	o := &outlet{sw: s, index: len(s.outlets)}
	s.outlets, s.open = append(s.outlets, o), append(s.open, o)
	return o
}

// Name is the switch's name on its LAN.
func (s *Switch) Name() string { return s.name }

// PortOf is where the switch would send a frame for that single address. The port
// is that of a host on the LAN, -1 if the address is behind a trunk; Where tells
// which.
func (s *Switch) PortOf(mac MAC) (port int, known bool) {
	o := s.find(mac)
	if o == nil {
		return 0, false
	}
	if o.host == nil {
		return -1, true
	}
	return o.host.Index, true
}

// Where is the name of the host's port or of the trunk to which the switch would
// send a frame for that single address.
func (s *Switch) Where(mac MAC) (name string, known bool) {
	o := s.find(mac)
	if o == nil {
		return "", false
	}
	return o.name(), true
}

func (s *Switch) find(mac MAC) *outlet {
	if at := s.static[mac]; len(at) > 0 {
		return at[0]
	}
	if e, ok := s.table[mac]; ok && !s.aged(e) {
		return e.at
	}
	return nil
}

// Forget empties the table, as a switch does that was restarted. What was entered
// by hand stays.
func (s *Switch) Forget() {
	clear(s.table)
	if s.snoop != nil {
		s.snoop.forget()
	}
}

// SetStatic enters an address by hand: frames for it go to these ports and trunks
// only, whether they are those of a single station or of a group (IEEE
// 802.1D-2004 §7.9.1). No names at all take the entry away. A single address has
// one port.
func (s *Switch) SetStatic(mac MAC, names ...string) error {
	if s.repeats {
		return fmt.Errorf("%s is a hub and has no table", s.name)
	}
	if len(names) > 1 && !group(mac) {
		return fmt.Errorf("%s: a single address is behind one port, not behind %d", macText(mac[:]), len(names))
	}
	var at []*outlet
	for _, name := range names {
		i := slices.IndexFunc(s.outlets, func(o *outlet) bool { return o.name() == name })
		if i < 0 {
			return fmt.Errorf("%s: switch %s has no port or trunk %q", macText(mac[:]), s.name, name)
		}
		at = append(at, s.outlets[i])
	}
	delete(s.table, mac)
	if len(at) == 0 {
		delete(s.static, mac)
	} else {
		s.static[mac] = at
	}
	return nil
}

func (s *Switch) aged(e learned) bool { return s.lan.w.now-e.heard >= s.ageing() }

// ageing is shorter for a while after a change of the spanning tree.
func (s *Switch) ageing() time.Duration {
	if s.tree != nil && s.tree.changing() {
		return min(s.Ageing, s.tree.o.ForwardDelay)
	}
	return s.Ageing
}

// receive takes a frame in at one of the ports and sends it on.
func (s *Switch) receive(in *outlet, t transit, frame []byte) {
	if s.tree != nil && in.trunk != nil && MAC(frame) == treeMAC() {
		s.tree.hear(in, frame)
		return
	}
	s.out = s.forward(in, t, frame, s.out[:0])
	for _, o := range s.out {
		s.emit(o, t, frame)
	}
}

// emit sends a copy of a frame out of one port.
func (s *Switch) emit(o *outlet, t transit, frame []byte) {
	if o.host != nil {
		s.lan.toHost(t, o.host, frame)
	} else {
		o.send(t, slices.Clone(frame))
	}
}

// forward appends to out where a frame goes on. It has at least MinFrame bytes.
func (s *Switch) forward(in *outlet, t transit, frame []byte, out []*outlet) []*outlet {
	if s.repeats {
		return s.others(in, MAC(frame), out)
	}
	dst, src := MAC(frame[0:]), MAC(frame[6:])
	if group(src) || src == (MAC{}) {
		in.count(DroppedSource)
		return out
	}
	if !in.learns() {
		in.count(DroppedBlocked)
		return out
	}
	if s.InspectARP && !honestARP(frame) {
		in.count(DroppedInspection)
		s.lan.report(InspectedARP, s.name+" "+in.name(), "an ARP packet that says %s comes in a frame from %s and was dropped: switch the validation of source MACs off for %s", describeARP(frame[MinFrame:]), macText(src[:]), in.name())
		return out
	}
	s.learn(src, in)
	if !in.forwards() {
		in.count(DroppedBlocked)
		return out
	}
	if [5]byte(frame) == [5]byte{0x01, 0x80, 0xc2, 0, 0} && dst[5] <= 0x0f && (dst[5] >= 0x01 || s.tree != nil) {
		in.count(DroppedReserved)
		return out
	}
	if at := s.static[dst]; len(at) > 0 && group(dst) {
		return s.amongst(in, at, out)
	}
	if to := s.find(dst); to != nil {
		return s.toOne(in, to, out)
	}
	if group(dst) && dst != broadcast() {
		return s.toGroup(in, t, frame, out)
	}
	if s.BlockUnknown && !group(dst) {
		in.count(DroppedUnknown)
		return out
	}
	in.count(Flooded)
	return s.flood(in, dst, out)
}

// toOne is the way of a frame to a known address.
func (s *Switch) toOne(in, to *outlet, out []*outlet) []*outlet {
	switch {
	case to == in:
		in.count(DroppedSamePort)
	case in.partedFrom(to):
		to.count(DroppedIsolated)
	case !to.forwards():
		to.count(DroppedBlocked)
	default:
		out = append(out, to)
	}
	return out
}

// toGroup is the way of a frame to a group that is not in the table.
func (s *Switch) toGroup(in *outlet, t transit, frame []byte, out []*outlet) []*outlet {
	if s.snoop != nil {
		if to, pruned := s.snoop.ports(in, frame); pruned {
			if len(to) == 0 {
				in.count(DroppedUnregistered)
			}
			return s.amongst(in, to, out)
		}
	}
	if s.BlockGroups {
		in.count(DroppedUnregistered)
		return out
	}
	in.count(Flooded)
	return s.flood(in, MAC(frame), out)
}

// flood is to all ports that a frame for that address may leave by.
func (s *Switch) flood(in *outlet, dst MAC, out []*outlet) []*outlet {
	all, one := s.listeners(dst)
	for _, o := range all {
		if s.floodsTo(in, o, dst) {
			out = append(out, o)
		}
	}
	if one != nil && s.floodsTo(in, one, dst) {
		out = append(out, one)
	}
	return out
}

// listeners are the ports whose hosts may want a frame for that address. Of the
// clients, which take only what is for them, it is that one or none: with thousands
// of them a flood need not look at each.
func (s *Switch) listeners(dst MAC) (all []*outlet, one *outlet) {
	if dst == broadcast() || len(s.narrow) == 0 {
		return s.outlets, nil
	}
	return s.open, s.narrow[dst]
}

// floodsTo says whether a flood gets out of a port.
func (s *Switch) floodsTo(in, o *outlet, dst MAC) bool {
	if o == in || !o.forwards() {
		return false
	}
	h := o.host
	switch {
	case h == nil:
	case in.partedFrom(o):
		h.count(DroppedIsolated)
		return false
	case h.BlockUnknown && !group(dst), h.BlockGroups && group(dst) && dst != broadcast():
		h.count(DroppedUnknown)
		return false
	}
	return true
}

// amongst is to some ports, without the one that the frame came in by.
func (s *Switch) amongst(in *outlet, some, out []*outlet) []*outlet {
	for _, o := range some {
		switch {
		case o == in || !o.forwards():
		case in.partedFrom(o):
			o.count(DroppedIsolated)
		default:
			out = append(out, o)
		}
	}
	return out
}

// others are all ports but one.
func (s *Switch) others(in *outlet, dst MAC, out []*outlet) []*outlet {
	all, one := s.listeners(dst)
	for _, o := range all {
		if o != in {
			out = append(out, o)
		}
	}
	if one != nil && one != in {
		out = append(out, one)
	}
	return out
}

// partedFrom says whether both ports are isolated ones.
func (o *outlet) partedFrom(to *outlet) bool {
	return o.host != nil && to.host != nil && o.host.Isolated && to.host.Isolated
}

// learn remembers where an address speaks, if there is room.
func (s *Switch) learn(mac MAC, in *outlet) {
	if len(s.static) > 0 && len(s.static[mac]) > 0 {
		return
	}
	old, known := s.table[mac]
	if !known && len(s.table) >= s.TableSize && !s.evict() {
		in.count(LearnedNot)
		s.lan.report(TableFull, s.name, "its table of %d addresses is full: frames for the others reach every port", s.TableSize)
		return
	}
	if known && old.at != in && !s.aged(old) {
		s.lan.counts[Moved]++
		s.moved(mac, old.at, in)
	}
	s.table[mac] = learned{in, s.lan.w.now}
}

// evict drops what has aged and says whether there is room now.
func (s *Switch) evict() bool {
	for old, e := range s.table {
		if s.aged(e) {
			delete(s.table, old)
		}
	}
	return len(s.table) < s.TableSize
}

// group says whether an address names more than one receiver.
func group(mac MAC) bool { return mac[0]&1 != 0 }
