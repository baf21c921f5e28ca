package sim

import "fmt"

// Faults are the faults of a set of ports, of a LAN or of a Net, and how often
// each one struck. Each call with on true is undone by the same call with on
// false: two faults of one kind that overlap end with the later one.
type Faults struct {
	ports  []portFaults
	pairs  map[pair]*pairFaults // looked up, never ranged over where order shows
	counts Counts
}

type pair struct{ from, to int32 }

type portFaults struct {
	deaf, mute, unplugged int
	counts                Counts
}

type pairFaults struct {
	cut, split int
	link       *Link
	wire       wire
	counts     Counts
}

func newFaults() Faults { return Faults{pairs: map[pair]*pairFaults{}} }

// Counts are the totals over all ports.
func (f *Faults) Counts() Counts { return f.counts }

// PortCounts are those of one port: what it sent, what reached it or did not.
func (f *Faults) PortCounts(port int) Counts { return f.at(port).counts }

// PairCounts are those of what one port sent to another, of the pair's own
// faults only: cuts, partitions, and the link between them if there is one.
func (f *Faults) PairCounts(from, to int) Counts {
	if p := f.pairs[pair{int32(from), int32(to)}]; p != nil {
		return p.counts
	}
	return Counts{}
}

// Deafen lets nothing reach a port, which can still send.
func (f *Faults) Deafen(port int, on bool) { nest(&f.at(port).deaf, on) }

// Mute lets nothing leave a port, which can still hear.
func (f *Faults) Mute(port int, on bool) { nest(&f.at(port).mute, on) }

// Unplug pulls a port's cable: nothing leaves and nothing arrives.
func (f *Faults) Unplug(port int, on bool) { nest(&f.at(port).unplugged, on) }

// Cut drops what one port sends to another, in that direction only.
func (f *Faults) Cut(from, to int, on bool) { nest(&f.between(from, to).cut, on) }

// Partition cuts, both ways, every two ports that are in different groups. A
// port in no group still reaches all.
func (f *Faults) Partition(groups [][]int, on bool) {
	for i, a := range groups {
		for j, b := range groups {
			if i == j {
				continue
			}
			for _, from := range a {
				for _, to := range b {
					nest(&f.between(from, to).split, on)
				}
			}
		}
	}
}

// Between puts a link of its own between two ports, in one direction, in
// series with all others on the way. Its loss is that of one pair only.
func (f *Faults) Between(from, to int) *Link {
	p := f.between(from, to)
	if p.link == nil {
		p.link = &Link{}
	}
	return p.link
}

// Heal ends every fault here, those of links included; the counts stay.
func (f *Faults) Heal() {
	for i := range f.ports {
		p := &f.ports[i]
		p.deaf, p.mute, p.unplugged = 0, 0, 0
	}
	for _, p := range f.pairs {
		p.cut, p.split, p.link = 0, 0, nil
	}
}

func (f *Faults) addPort() int {
	f.ports = append(f.ports, portFaults{})
	return len(f.ports) - 1
}

func (f *Faults) at(port int) *portFaults {
	if port < 0 || port >= len(f.ports) {
		panic(fmt.Sprintf("sim: there is no port %d, only %d of them", port, len(f.ports)))
	}
	return &f.ports[port]
}

func (f *Faults) between(from, to int) *pairFaults {
	f.at(from)
	f.at(to)
	key := pair{int32(from), int32(to)}
	p := f.pairs[key]
	if p == nil {
		p = &pairFaults{}
		f.pairs[key] = p
	}
	return p
}

func (f *Faults) count(port int, c Counter) {
	f.counts[c]++
	f.ports[port].counts[c]++
}

// mayLeave says whether what a port sends gets out of it.
func (f *Faults) mayLeave(port int) bool {
	switch p := &f.ports[port]; {
	case p.unplugged > 0:
		f.count(port, DroppedUnplugged)
	case p.mute > 0:
		f.count(port, DroppedMute)
	default:
		return true
	}
	return false
}

// mayArrive says whether what has come to a port gets into it.
func (f *Faults) mayArrive(port int) bool {
	switch p := &f.ports[port]; {
	case p.unplugged > 0:
		f.count(port, DroppedUnplugged)
	case p.deaf > 0:
		f.count(port, DroppedDeaf)
	default:
		return true
	}
	return false
}

// mayCross says whether what one port sends to another gets past the pair's
// cuts, and returns the link between them, or nil.
func (f *Faults) mayCross(from, to int) (*pairFaults, bool) {
	if len(f.pairs) == 0 {
		return nil, true
	}
	p := f.pairs[pair{int32(from), int32(to)}]
	if p == nil {
		return nil, true
	}
	c := Counter(-1)
	switch {
	case p.cut > 0:
		c = DroppedCut
	case p.split > 0:
		c = DroppedPartition
	default:
		return p, true
	}
	f.count(to, c)
	p.counts[c]++
	return p, false
}

// countPair counts what happens on a pair's own link, at the receiver too.
func (f *Faults) countPair(p *pairFaults, to int) func(Counter) {
	return func(c Counter) {
		f.count(to, c)
		p.counts[c]++
	}
}

// nest counts how many faults of one kind are on, and says whether none is.
func nest(n *int, on bool) bool {
	if on {
		*n++
	} else if *n > 0 {
		*n--
	}
	return *n == 0
}
