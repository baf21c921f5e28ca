package sim

// Trunk is a cable between two switches of a LAN.
type Trunk struct {
	Name string
	// Forth leads from A to B as they were given, Back the other way. They may be
	// changed at any time: a loss of 1 in one of them is a fault of one way.
	Forth, Back Link

	lan       *LAN
	a, b      *outlet
	unplugged int
	counts    Counts
}

// outlet is one port of a switch: a host's, or one end of a trunk.
type outlet struct {
	sw    *Switch
	index int     // in the switch's outlets
	host  *Port   // nil: a trunk's
	trunk *Trunk  // nil: a host's
	far   *outlet // the trunk's other end
	link  *Link   // the trunk's, from here to there
	wire  wire
	tree  treePort
}

// transit is what goes along with a frame from switch to switch.
type transit struct {
	from *Port  // who sent it
	path uint32 // the switches that it has been through, a bit for each
	laps int    // how often it came to one of them again
}

func (l *LAN) addTrunk(o TrunkOptions) {
	t := &Trunk{Name: o.Name, Forth: o.Link, Back: o.Link, lan: l}
	t.a, t.b = l.Switch(o.A).addOutlet(), l.Switch(o.B).addOutlet()
	t.a.trunk, t.a.far, t.a.link = t, t.b, &t.Forth
	t.b.trunk, t.b.far, t.b.link = t, t.a, &t.Back
	l.trunks = append(l.trunks, t)
}

// Unplug pulls the trunk's cable, which both switches see at once. Like a fault
// of Faults it is undone by the same call with on false.
func (t *Trunk) Unplug(on bool) {
	was := t.unplugged > 0
	nest(&t.unplugged, on)
	if now := t.unplugged > 0; now != was {
		t.lan.trunkChanged(t)
	}
}

// Heal ends the trunk's faults. Delays and rates stay.
func (t *Trunk) Heal() {
	t.Forth.Heal()
	t.Back.Heal()
	if t.unplugged > 0 {
		t.unplugged = 1
		t.Unplug(false)
	}
}

// Counts is what happened on the trunk, both ways: Sent is what was put on it.
func (t *Trunk) Counts() Counts { return t.counts }

// Ends are the names of the switches that it joins.
func (t *Trunk) Ends() (a, b string) { return t.a.sw.name, t.b.sw.name }

func (t *Trunk) count(c Counter) {
	t.counts[c]++
	t.lan.counts[c]++
}

func (o *outlet) count(c Counter) {
	if o.trunk != nil {
		o.trunk.count(c)
	} else {
		o.host.count(c)
	}
}

// name is the host's or the trunk's.
func (o *outlet) name() string {
	if o.trunk != nil {
		return o.trunk.Name
	}
	return o.host.Name
}

// send puts a frame, which becomes the trunk's own, on its way to the other end.
func (o *outlet) send(t transit, frame []byte) {
	if o.trunk.unplugged > 0 {
		o.count(DroppedUnplugged)
		return
	}
	if o.sw.lan.storm.full() {
		o.count(DroppedStorm)
		return
	}
	o.trunk.counts[Sent]++
	o.sw.lan.w.carry(o.link, &o.wire, frame, MinFrame, o.trunk.count, func(f []byte) { o.far.comeIn(t, f) })
}

// comeIn is the arrival of a frame at a trunk's end.
func (o *outlet) comeIn(t transit, frame []byte) {
	if o.trunk.unplugged > 0 {
		o.count(DroppedUnplugged)
		return
	}
	bit := uint32(1) << o.sw.number
	if t.path&bit != 0 && o.forwards() {
		t.laps++
		if !o.sw.lan.storm.passes(o, t, frame) {
			o.count(DroppedStorm)
			return
		}
	}
	t.path |= bit
	o.trunk.counts[Delivered]++
	o.sw.receive(o, t, frame)
}
