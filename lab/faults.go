package lab

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// faults are what is wrong with the cables of a LAN. They are rules for what
// the bridge passes on, so that a host at a bad cable notices nothing by
// itself, and the sniffer, which sits before them, still hears what it sends.
type faults struct {
	mu sync.Mutex
	// deaf hosts get no frame, and frames of mute ones go nowhere.
	deaf, mute map[string]bool
	// side is which part of a split LAN a host is on, from 1. Hosts with none
	// are on both.
	side map[string]int
}

// MaxSides is into how many parts a LAN can be split.
const MaxSides = 8

// errNoNFT says what faults of cables need.
var errNoNFT = errors.New("there is no nft on this machine, by which the lab cuts cables; install nftables")

// Deafen lets a host hear nothing, or again everything.
func (l *LAN) Deafen(h *Host, yes bool) error {
	return l.change(func(f *faults) { set(&f.deaf, h.Name, yes) })
}

// Mute lets a host's frames go nowhere, or again everywhere.
func (l *LAN) Mute(h *Host, yes bool) error {
	return l.change(func(f *faults) { set(&f.mute, h.Name, yes) })
}

// Split parts the LAN: no frame passes between hosts of different sides. Hosts
// that are named in none hear and reach all.
func (l *LAN) Split(sides [][]*Host) error {
	if len(sides) < 2 || len(sides) > MaxSides {
		return fmt.Errorf("a split has 2 to %d sides; write them like n1,n2/n3,n4", MaxSides)
	}
	side := map[string]int{}
	for i, hosts := range sides {
		for _, h := range hosts {
			if side[h.Name] != 0 {
				return fmt.Errorf("%s is on two sides of the split", h.Name)
			}
			side[h.Name] = i + 1
		}
		if len(hosts) == 0 {
			return errors.New("one side of the split is empty; write them like n1,n2/n3,n4")
		}
	}
	return l.change(func(f *faults) { f.side = side })
}

// Join undoes a split.
func (l *LAN) Join() error { return l.change(func(f *faults) { f.side = nil }) }

// Heal makes all cables good again.
func (l *LAN) Heal() error {
	return l.change(func(f *faults) { f.deaf, f.mute, f.side = nil, nil, nil })
}

// Sides reads a split: "n1,n2/n3,n4". Hosts have their short or long names;
// "clients" are all of them.
func (l *LAN) Sides(text string) ([][]*Host, error) {
	var sides [][]*Host
	for _, part := range strings.Split(text, "/") {
		var hosts []*Host
		for _, name := range strings.Split(part, ",") {
			h, known := l.Host(name)
			switch {
			case name == "clients":
				hosts = append(hosts, l.Clients()...)
			case known:
				hosts = append(hosts, h)
			default:
				return nil, fmt.Errorf("there is no host %q in the lab; write a split like n1,n2/n3,n4,clients", name)
			}
		}
		sides = append(sides, hosts)
	}
	return sides, nil
}

func set(m *map[string]bool, name string, yes bool) {
	if *m == nil {
		*m = map[string]bool{}
	}
	if yes {
		(*m)[name] = true
	} else {
		delete(*m, name)
	}
}

// change changes the faults and puts them in force at one instant. When that
// fails, they stay what they were.
func (l *LAN) change(do func(*faults)) error {
	f := &l.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	was := faults{deaf: maps.Clone(f.deaf), mute: maps.Clone(f.mute), side: f.side}
	do(f)
	if was.none() && f.none() {
		return nil
	}
	if err := l.nft(f.rules()); err != nil {
		f.deaf, f.mute, f.side = was.deaf, was.mute, was.side
		return err
	}
	return nil
}

func (f *faults) none() bool { return len(f.deaf)+len(f.mute)+len(f.side) == 0 }

// table is the lab's own in the LAN's namespace.
const table = "bridge onevoice_lab"

// rules are the faults in the language of nft(8). The first two lines take away
// what was before, whether or not there was something; all is one transaction.
func (f *faults) rules() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\ndelete table %s\n", table, table)
	if f.none() {
		return b.String()
	}
	fmt.Fprintf(&b, "table %s {\n chain passed_on {\n  type filter hook forward priority 0; policy accept;\n", table)
	for _, name := range slices.Sorted(maps.Keys(f.deaf)) {
		fmt.Fprintf(&b, "  oifname %q drop\n", name)
	}
	for _, name := range slices.Sorted(maps.Keys(f.mute)) {
		fmt.Fprintf(&b, "  iifname %q drop\n", name)
	}
	for from := 1; from <= MaxSides; from++ {
		for to := 1; to <= MaxSides; to++ {
			if here, there := f.on(from), f.on(to); from != to && here != "" && there != "" {
				fmt.Fprintf(&b, "  iifname { %s } oifname { %s } drop\n", here, there)
			}
		}
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// on lists the hosts of a side.
func (f *faults) on(side int) string {
	var names []string
	for name, s := range f.side {
		if s == side {
			names = append(names, fmt.Sprintf("%q", name))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// nft runs a script in the LAN's namespace.
func (l *LAN) nft(script string) error {
	path, err := exec.LookPath("nft")
	if err != nil {
		return errNoNFT
	}
	var told bytes.Buffer
	cmd := exec.Command(path, "-f", "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &told, &told
	if err := l.ns.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("lab: the kernel refused to cut a cable (nft: %w): %s", err, strings.TrimSpace(told.String()))
	}
	return nil
}
