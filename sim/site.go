package sim

import (
	"fmt"
	"time"
)

// Site is where a plan's faults strike: a LAN, perhaps a Net, and hosts by name.
type Site struct {
	LAN *LAN
	Net *Net // nil: there is none
	// Down is called when a Kill, Reboot or Wipe begins, perhaps of a host that
	// is down already; Up when the last of these that overlap has ended. Only
	// the caller knows what dies and how it comes back.
	Down, Up func(Fault)
	// HoldBack is for how long Reorder holds back. 0: 10 ms.
	HoldBack time.Duration

	w     *World
	names []string
	hosts map[string]*siteHost
	runs  []*strike
}

// siteHost is what of a host can be struck.
type siteHost struct {
	port    *Port
	netHost *NetHost
	clock   *Clock
	disk    *Disk
	ppm     int64 // the clock's own drift, to which it returns

	downs, drifts  uint64 // how often it was struck so
	down, drifting int    // how many such faults are on
}

// strike is one fault of a plan on its way.
type strike struct {
	fault         Fault
	begun, ended  bool
	before, after uint64
}

// NewSite makes a site without hosts.
func NewSite(l *LAN, n *Net) *Site {
	return &Site{LAN: l, Net: n, w: l.w, hosts: map[string]*siteHost{}}
}

// Host adds a host. Without a clock, a Net's end or a disk, faults of these
// cannot strike it.
func (s *Site) Host(port *Port, n *NetHost, clock *Clock, disk *Disk) {
	h := &siteHost{port: port, netHost: n, clock: clock, disk: disk}
	if clock != nil {
		h.ppm = clock.eras[len(clock.eras)-1].ppm
	}
	s.names = append(s.names, port.Name)
	s.hosts[port.Name] = h
}

// Names are the hosts' names, for ParsePlan.
func (s *Site) Names() []string { return s.names }

// Run lets a plan take its course, from now on. It refuses a plan with a fault
// that cannot strike here.
func (s *Site) Run(p Plan) error {
	for _, f := range p {
		if err := s.check(f); err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
	}
	for _, f := range p {
		r := &strike{fault: f}
		s.runs = append(s.runs, r)
		s.w.At(f.At, func() { s.begin(r) })
		if f.For > 0 {
			s.w.At(f.At+f.For, func() { s.end(r) })
		}
	}
	return nil
}

// Quiet are the faults that have begun and never struck: nothing was there for
// them to drop, delay or spoil.
func (s *Site) Quiet() (out Plan) {
	for _, r := range s.runs {
		after := r.after
		if r.begun && !r.ended {
			after = s.struck(r.fault)
		}
		if r.begun && after == r.before {
			out = append(out, r.fault)
		}
	}
	return out
}

func (s *Site) check(f Fault) error {
	names := f.Hosts
	for _, g := range f.Group {
		names = append(names[:len(names):len(names)], g...)
	}
	for _, name := range names {
		h := s.hosts[name]
		if h == nil {
			return fmt.Errorf("there is no host %s", name)
		}
		if f.Net && (s.Net == nil || h.netHost == nil) {
			return fmt.Errorf("%s is on no management network", name)
		}
		switch f.Kind {
		case Pause, Freeze, Drift:
			if h.clock == nil {
				return fmt.Errorf("%s has no clock", name)
			}
		case Fsync, Break:
			if h.disk == nil {
				return fmt.Errorf("%s has no disk", name)
			}
		case Kill, Reboot, Wipe:
			if s.Down == nil || s.Up == nil {
				return fmt.Errorf("nobody here can kill %s", name)
			}
		}
	}
	if (f.Kind == Pause || f.Kind == Freeze || f.Kind == Fsync) && f.For == 0 {
		return fmt.Errorf("it needs an end: write +1s behind it")
	}
	return nil
}

func (s *Site) begin(r *strike) {
	r.before, r.begun = s.struck(r.fault), true
	s.w.Record("chaos", "begins "+r.fault.String())
	f := r.fault
	switch f.Kind {
	case Kill, Reboot, Wipe:
		h := s.hosts[f.Hosts[0]]
		h.downs++
		h.down++
		s.Down(f)
	case Pause:
		s.hosts[f.Hosts[0]].clock.Pause(f.For)
	case Freeze:
		s.hosts[f.Hosts[0]].clock.Freeze(f.For)
	case Drift:
		h := s.hosts[f.Hosts[0]]
		h.drifts++
		h.drifting++
		h.clock.SetDrift(int64(f.Amount))
	case Fsync:
		s.hosts[f.Hosts[0]].disk.Stall(f.For)
	case Break:
		s.hosts[f.Hosts[0]].disk.Break()
	default:
		s.network(f, true)
	}
}

func (s *Site) end(r *strike) {
	f := r.fault
	// What a pause made late comes after this event.
	s.w.After(0, func() { r.after, r.ended = s.struck(f), true })
	s.w.Record("chaos", "ends "+f.String())
	switch f.Kind {
	case Kill, Reboot, Wipe:
		if h := s.hosts[f.Hosts[0]]; nest(&h.down, false) {
			s.Up(f)
		}
	case Drift:
		if h := s.hosts[f.Hosts[0]]; nest(&h.drifting, false) {
			h.clock.SetDrift(h.ppm)
		}
	case Pause, Freeze, Fsync, Break: // end by themselves, or with the disk's next crash
	default:
		s.network(f, false)
	}
}

// index is a host's port on the LAN or on the Net.
func (s *Site) index(f Fault, name string) int {
	if f.Net {
		return s.hosts[name].netHost.Index
	}
	return s.hosts[name].port.Index
}

func (s *Site) faults(f Fault) *Faults {
	if f.Net {
		return &s.Net.Faults
	}
	return &s.LAN.Faults
}

func (s *Site) indexes(f Fault) (out [][]int) {
	for _, g := range f.Group {
		var group []int
		for _, name := range g {
			group = append(group, s.index(f, name))
		}
		out = append(out, group)
	}
	return out
}

// network turns a fault of a network on or off.
func (s *Site) network(f Fault, on bool) {
	net := s.faults(f)
	switch f.Kind {
	case Deafen:
		net.Deafen(s.index(f, f.Hosts[0]), on)
	case Mute:
		net.Mute(s.index(f, f.Hosts[0]), on)
	case Unplug:
		net.Unplug(s.index(f, f.Hosts[0]), on)
	case Cut:
		a, b := s.index(f, f.Hosts[0]), s.index(f, f.Hosts[1])
		net.Cut(a, b, on)
		if !f.OneWay {
			net.Cut(b, a, on)
		}
	case Partition:
		net.Partition(s.indexes(f), on)
	default:
		for _, link := range s.links(f) {
			s.spoil(link, f, on)
		}
	}
}

// links are those that lead to a host.
func (s *Site) links(f Fault) (out []*Link) {
	if !f.Net {
		return []*Link{&s.hosts[f.Hosts[0]].port.Down}
	}
	to := s.index(f, f.Hosts[0])
	for from := range s.Net.hosts {
		out = append(out, s.Net.Between(from, to))
	}
	return out
}

// spoil adds to what a link does wrong, or takes it away: two faults at once
// add up, and a link that was healed in between does not go below nothing.
func (s *Site) spoil(l *Link, f Fault, on bool) {
	p := map[Kind]*float64{Loss: &l.Loss, Dup: &l.Dup, Corrupt: &l.Corrupt, Reorder: &l.Reorder}[f.Kind]
	amount := float64(f.Amount) / 100
	if on {
		*p += amount
	} else if *p -= amount; *p < 1e-9 {
		*p = 0
	}
	if f.Kind == Reorder && l.HoldBack == 0 {
		l.HoldBack = s.HoldBack
		if l.HoldBack == 0 {
			l.HoldBack = 10 * time.Millisecond
		}
	}
}

// struck is how often a fault of this kind has struck this target so far.
func (s *Site) struck(f Fault) uint64 {
	if f.Kind == Cut {
		n := s.faults(f)
		a, b := s.index(f, f.Hosts[0]), s.index(f, f.Hosts[1])
		count := n.PairCounts(a, b)[DroppedCut]
		if !f.OneWay {
			count += n.PairCounts(b, a)[DroppedCut]
		}
		return count
	}
	if f.Kind == Partition {
		return s.struckPartition(f)
	}
	h := s.hosts[f.Hosts[0]]
	switch f.Kind {
	case Kill, Reboot, Wipe:
		return h.downs
	case Pause, Freeze:
		return h.clock.LateEvents
	case Drift:
		return h.drifts
	case Fsync:
		return h.disk.counts.Stalls
	case Break:
		return h.disk.counts.Refused
	}
	if c, ok := map[Kind]Counter{Deafen: DroppedDeaf, Mute: DroppedMute, Unplug: DroppedUnplugged, Loss: Lost, Dup: Duplicated,
		Corrupt: Corrupted, Reorder: Overtook}[f.Kind]; ok {
		return s.faults(f).PortCounts(s.index(f, f.Hosts[0]))[c]
	}
	return 0
}

func (s *Site) struckPartition(f Fault) (count uint64) {
	groups := s.indexes(f)
	for i, a := range groups {
		for j, b := range groups {
			for _, from := range a {
				for _, to := range b {
					if i != j {
						count += s.faults(f).PairCounts(from, to)[DroppedPartition]
					}
				}
			}
		}
	}
	return count
}
