package sim

import (
	"fmt"
	"slices"
	"time"
)

// Bounds of a topology.
const (
	MaxSwitches = 16
	MaxTrunks   = 64
	MaxPorts    = 65536 // of one switch
)

// Topology is a LAN of one switch or several, as NewLAN builds it.
type Topology struct {
	Switches []SwitchOptions
	Trunks   []TrunkOptions
}

// SwitchOptions say what one switch is. The zero values of the times and of the
// table's size mean the defaults.
type SwitchOptions struct {
	Name string
	// Ports is how many hosts and ends of trunks fit in, 1 to MaxPorts.
	Ports int
	// Repeats makes it a hub: it learns nothing and sends every frame to all other
	// ports. None of the options below may be set with it.
	Repeats bool
	// Ageing is for how long an address is known; TableSize how many are.
	Ageing    time.Duration
	TableSize int
	// BlockUnknown keeps frames for unknown single addresses from all ports, and
	// BlockGroups those for groups that nobody has entered or joined; broadcast is
	// never kept back.
	BlockUnknown, BlockGroups bool
	// Isolated makes each host's port one that sends to no other isolated port
	// (Port.Isolated). Trunks and ports that are set otherwise reach all.
	Isolated bool
	// InspectARP drops ARP packets whose sender MAC is not the source of their
	// frame, as Dynamic ARP Inspection does when it validates source MACs.
	InspectARP bool
	Snooping   *Snooping     // nil: groups are flooded
	Tree       *SpanningTree // nil: it takes no part, and hears no other
}

// TrunkOptions are a cable between two switches.
type TrunkOptions struct {
	Name string
	A, B string // switches
	// Link is what each direction is at first.
	Link Link
}

// NewLAN builds a LAN, or says why there can be none like it. Hosts are plugged
// in with AttachTo; Attach means the first switch.
func (w *World) NewLAN(t Topology) (*LAN, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	l := w.newLAN()
	for _, o := range t.Switches {
		l.addSwitch(o)
	}
	for _, o := range t.Trunks {
		l.addTrunk(o)
	}
	l.startTrees()
	l.startQueriers()
	return l, nil
}

func (t *Topology) check() error {
	if len(t.Switches) == 0 || len(t.Switches) > MaxSwitches {
		return fmt.Errorf("a LAN has 1 to %d switches, not %d", MaxSwitches, len(t.Switches))
	}
	if len(t.Trunks) > MaxTrunks {
		return fmt.Errorf("a LAN has at most %d trunks, not %d", MaxTrunks, len(t.Trunks))
	}
	seen, free := map[string]bool{}, map[string]int{}
	for i := range t.Switches {
		o := &t.Switches[i]
		if err := o.check(); err != nil {
			return err
		}
		if seen[o.Name] {
			return fmt.Errorf("there are two switches %s", o.Name)
		}
		seen[o.Name], free[o.Name] = true, o.Ports
	}
	for i := range t.Trunks {
		o := &t.Trunks[i]
		if o.Name == "" || seen[o.Name] {
			return fmt.Errorf("the trunk %q between %s and %s needs a name of its own", o.Name, o.A, o.B)
		}
		seen[o.Name] = true
		if err := o.check(free); err != nil {
			return err
		}
	}
	return nil
}

func (o *SwitchOptions) check() error {
	switch {
	case o.Name == "":
		return fmt.Errorf("a switch needs a name")
	case o.Ports < 1 || o.Ports > MaxPorts:
		return fmt.Errorf("switch %s: it has 1 to %d ports, not %d", o.Name, MaxPorts, o.Ports)
	case o.Ageing < 0:
		return fmt.Errorf("switch %s: addresses age in more than no time, not in %v", o.Name, o.Ageing)
	case o.TableSize < 0:
		return fmt.Errorf("switch %s: a table has room for 1 address or more, not %d", o.Name, o.TableSize)
	case o.Repeats && (o.Ageing > 0 || o.TableSize > 0 || o.BlockUnknown || o.BlockGroups || o.Isolated || o.InspectARP || o.Snooping != nil || o.Tree != nil):
		return fmt.Errorf("switch %s: a hub repeats every frame; it can neither learn, block, isolate, inspect, snoop nor take part in a spanning tree", o.Name)
	}
	if o.Snooping != nil {
		if err := o.Snooping.check(); err != nil {
			return fmt.Errorf("switch %s: %w", o.Name, err)
		}
	}
	if o.Tree != nil {
		if err := o.Tree.check(); err != nil {
			return fmt.Errorf("switch %s: %w", o.Name, err)
		}
	}
	return nil
}

// check takes the ports of a trunk from those that are free.
func (o *TrunkOptions) check(free map[string]int) error {
	if o.A == o.B {
		return fmt.Errorf("trunk %s: it leads from %s to itself; a trunk joins two switches", o.Name, o.A)
	}
	for _, name := range []string{o.A, o.B} {
		n, known := free[name]
		if !known {
			return fmt.Errorf("trunk %s: there is no switch %q", o.Name, name)
		}
		if n == 0 {
			return fmt.Errorf("trunk %s: switch %s has no free port for it; give it more ports", o.Name, name)
		}
		free[name]--
	}
	if err := o.Link.Check(); err != nil {
		return fmt.Errorf("trunk %s: %w", o.Name, err)
	}
	return nil
}

// Switches are all switches of the LAN, a hub among them, as they were given.
func (l *LAN) Switches() []*Switch { return l.switches }

// Switch is the switch of a name, or nil.
func (l *LAN) Switch(name string) *Switch {
	if i := slices.IndexFunc(l.switches, func(s *Switch) bool { return s.name == name }); i >= 0 {
		return l.switches[i]
	}
	return nil
}

// Trunks are all trunks of the LAN, as they were given.
func (l *LAN) Trunks() []*Trunk { return l.trunks }

// Trunk is the trunk of a name, or nil.
func (l *LAN) Trunk(name string) *Trunk {
	if i := slices.IndexFunc(l.trunks, func(t *Trunk) bool { return t.Name == name }); i >= 0 {
		return l.trunks[i]
	}
	return nil
}
