package sim

import (
	"fmt"
	"slices"
	"time"
)

// MaxFindings bounds the findings of one LAN.
const MaxFindings = 256

// FindingKind is what kind of thing was found.
type FindingKind string

// What a LAN finds in itself. Each is reported once for each place.
const (
	// Storm: frames go in circles, for switches are joined by more than one way
	// and nothing blocks any.
	Storm FindingKind = "storm"
	// StationMoves: an address is learned now at one port, now at another.
	StationMoves FindingKind = "station moves"
	// TableFull: a switch has no room for an address.
	TableFull FindingKind = "table full"
	// Pruned: a switch has taken a port out of a group, for nothing asked for it
	// within the membership interval, and now keeps the group's frames from it.
	Pruned FindingKind = "pruned"
	// RefusedARP: a router did not believe an ARP answer.
	RefusedARP FindingKind = "refused ARP"
	// InspectedARP: a switch dropped an ARP packet whose sender MAC is not the
	// source of its frame.
	InspectedARP FindingKind = "inspected ARP"
	// RoutedInCircles: a router sent a packet back to where it came from as a
	// frame to a group, until its hops were used up.
	RoutedInCircles FindingKind = "routed in circles"
)

// Finding is something that the LAN's administrator should know.
type Finding struct {
	At    time.Duration
	Kind  FindingKind
	Where string // the switch, trunk, port or router
	What  string // a sentence
}

func (f Finding) String() string {
	return fmt.Sprintf("%.6fs %s: %s: %s", f.At.Seconds(), f.Where, f.Kind, f.What)
}

// Findings are what was found so far, oldest first.
func (l *LAN) Findings() []Finding { return l.findings }

// Found is the first finding of a kind, if there is one.
func (l *LAN) Found(kind FindingKind) (Finding, bool) {
	if i := slices.IndexFunc(l.findings, func(f Finding) bool { return f.Kind == kind }); i >= 0 {
		return l.findings[i], true
	}
	return Finding{}, false
}

// report notes a finding, the first of its kind at a place.
func (l *LAN) report(kind FindingKind, where, format string, args ...any) {
	if len(l.findings) >= MaxFindings || slices.ContainsFunc(l.findings, func(f Finding) bool { return f.Kind == kind && f.Where == where }) {
		return
	}
	f := Finding{l.w.now, kind, where, fmt.Sprintf(format, args...)}
	l.findings = append(l.findings, f)
	l.w.Record(where, "finding: "+string(kind)+": "+f.What)
}
