package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind int

// The kinds. Kill, Reboot and Wipe are of a process and a host, and belong to
// the caller; a Site knows how to do the others.
const (
	Kill      Kind = iota // the process dies; it is started again at the end
	Reboot                // the host loses power, and what its disk had not synced
	Wipe                  // as Reboot, and its disk is empty afterwards
	Pause                 // the host does nothing, its clock goes on
	Freeze                // the host does nothing and its clock stands still
	Drift                 // the host's clock goes wrong by Amount parts in a million
	Fsync                 // no fsync ends
	Break                 // the disk fails
	Deafen                // nothing reaches the host
	Mute                  // nothing leaves the host
	Unplug                // both
	Cut                   // between two hosts
	Partition             // between groups of hosts
	Loss                  // of Amount percent of what goes to the host
	Dup                   // the same, doubled
	Corrupt               // the same, with a wrong bit
	Reorder               // the same, held back
	kinds
)

// Kinds are the names of all kinds.
func Kinds() (out []string) {
	for k := range kinds {
		out = append(out, k.String())
	}
	return out
}

// form is what is written behind a kind's name.
type form int

const (
	oneHost form = iota
	twoHosts
	groups
	withPPM
	withPercent
)

type kindOf struct {
	name    string
	form    form
	network bool // on the LAN or on the Net
}

func (k Kind) what() kindOf {
	return [kinds]kindOf{
		{"kill", oneHost, false}, {"reboot", oneHost, false}, {"wipe", oneHost, false}, {"pause", oneHost, false},
		{"freeze", oneHost, false}, {"drift", withPPM, false}, {"fsync", oneHost, false}, {"break", oneHost, false},
		{"deafen", oneHost, true}, {"mute", oneHost, true}, {"unplug", oneHost, true}, {"cut", twoHosts, true},
		{"partition", groups, true}, {"loss", withPercent, true}, {"dup", withPercent, true}, {"corrupt", withPercent, true},
		{"reorder", withPercent, true},
	}[k]
}

func (k Kind) String() string {
	if k < 0 || k >= kinds {
		return fmt.Sprintf("kind %d", int(k))
	}
	return k.what().name
}

// Fault is one fault, as a value. String and ParseFault are inverse to each
// other:
//
//	kill n2@5s                    for good
//	kill n2@5s+3s                 for 3 s
//	cut n1-n3@8s+2s               both ways; n1>n3 is one way
//	cut net n1-n3@8s+2s           on the management network instead of the LAN
//	partition n1,n2|n3,n4@6s+3s
//	drift n1=-300ppm@4s+1s
//	loss n1=10%@4s+1s
type Fault struct {
	Kind  Kind
	Hosts []string   // one; for Cut two
	Group [][]string // for Partition only
	// OneWay: a Cut drops what the first host sends to the second, and no more.
	OneWay bool
	Net    bool          // on the Net, not on the LAN
	Amount int           // parts in a million for Drift, else percent
	At     time.Duration // from the start of the world
	For    time.Duration // 0: for good
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Kind.String() + " ")
	if f.Net {
		b.WriteString("net ")
	}
	switch f.Kind.what().form {
	case oneHost:
		b.WriteString(f.Hosts[0])
	case twoHosts:
		b.WriteString(f.Hosts[0] + map[bool]string{false: "-", true: ">"}[f.OneWay] + f.Hosts[1])
	case groups:
		for i, g := range f.Group {
			if i > 0 {
				b.WriteByte('|')
			}
			b.WriteString(strings.Join(g, ","))
		}
	case withPPM:
		fmt.Fprintf(&b, "%s=%+dppm", f.Hosts[0], f.Amount)
	case withPercent:
		fmt.Fprintf(&b, "%s=%d%%", f.Hosts[0], f.Amount)
	}
	b.WriteString("@" + f.At.String())
	if f.For > 0 {
		b.WriteString("+" + f.For.String())
	}
	return b.String()
}

// Plan is a list of faults.
type Plan []Fault

// String is one line for each fault.
func (p Plan) String() string {
	var b strings.Builder
	for _, f := range p {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// Bounds of a plan.
const (
	MaxFaults = 100_000
	MaxPlan   = 1000 * time.Hour // for At and For each
)

// ParsePlan reads a plan, one fault a line; empty lines and what follows a # do
// not count. An error names line and column. If hosts is not empty, others are
// refused.
func ParsePlan(text string, hosts []string) (Plan, error) {
	var p Plan
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if len(p) == MaxFaults {
			return nil, fmt.Errorf("line %d: more than %d faults; split the plan", i+1, MaxFaults)
		}
		f, err := ParseFault(line, hosts)
		if err != nil {
			return nil, fmt.Errorf("line %d, %w", i+1, err)
		}
		p = append(p, f)
	}
	return p, nil
}

// ParseFault reads one fault. An error names the column, from 1.
func ParseFault(line string, hosts []string) (Fault, error) {
	r := faultReader{line: strings.TrimRight(line, " \t\r"), hosts: hosts}
	r.spaces()
	f := r.fault()
	if r.err != nil {
		return Fault{}, r.err
	}
	return f, nil
}

// faultReader goes through a line from left to right, up to the first fault.
type faultReader struct {
	line  string
	pos   int
	hosts []string
	err   error
}

func (r *faultReader) fail(at int, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("column %d: %s", at+1, fmt.Sprintf(format, args...))
	}
}

func (r *faultReader) spaces() {
	for r.pos < len(r.line) && (r.line[r.pos] == ' ' || r.line[r.pos] == '\t') {
		r.pos++
	}
}

// word is what comes before any of the stops.
func (r *faultReader) word(stops string) (string, int) {
	at := r.pos
	if n := strings.IndexAny(r.line[at:], stops); n >= 0 {
		r.pos += n
	} else {
		r.pos = len(r.line)
	}
	return r.line[at:r.pos], at
}

// accept goes past c if it is next.
func (r *faultReader) accept(c byte) bool {
	if r.pos < len(r.line) && r.line[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

func (r *faultReader) expect(c byte, instead string) {
	if !r.accept(c) {
		r.fail(r.pos, "%q is expected here: write %s", c, instead)
	}
}

func (r *faultReader) fault() (f Fault) {
	f.Kind = r.kind()
	if r.err != nil {
		return f
	}
	r.spaces()
	if at := r.pos; strings.HasPrefix(r.line[at:], "net ") || strings.HasPrefix(r.line[at:], "net\t") {
		r.pos += len("net ")
		r.spaces()
		f.Net = true
		if !f.Kind.what().network {
			r.fail(at, "%v is not a fault of a network; leave \"net\" out", f.Kind)
		}
	}
	r.target(&f)
	r.expect('@', "when it begins, such as n1@5s")
	f.At = r.duration()
	if r.accept('+') {
		at := r.pos
		if f.For = r.duration(); f.For == 0 {
			r.fail(at, "a fault lasts longer than 0; leave it out for a fault that stays")
		}
	}
	if r.pos < len(r.line) {
		r.fail(r.pos, "%q is too much: a fault ends with its duration", r.line[r.pos:])
	}
	return f
}

func (r *faultReader) kind() Kind {
	name, at := r.word(" \t")
	var all []string
	for k := range kinds {
		if k.String() == name {
			return k
		}
		all = append(all, k.String())
	}
	r.fail(at, "there is no fault %q; there are %s", name, strings.Join(all, ", "))
	return 0
}

func (r *faultReader) target(f *Fault) {
	switch f.Kind.what().form {
	case twoHosts:
		f.Hosts = []string{r.host("->@=,|")}
		if f.OneWay = r.accept('>'); !f.OneWay {
			r.expect('-', "two hosts as n1-n2, or n1>n2 for one way")
		}
		at := r.pos
		f.Hosts = append(f.Hosts, r.host("@"))
		if f.Hosts[0] == f.Hosts[1] {
			r.fail(at, "a host cannot be cut from itself")
		}
	case groups:
		r.groups(f)
	case withPPM:
		f.Hosts = []string{r.host("@=")}
		r.expect('=', "an amount, such as n1=-300ppm")
		f.Amount = r.amount("ppm", -MaxDriftPPM, MaxDriftPPM)
	case withPercent:
		f.Hosts = []string{r.host("@=")}
		r.expect('=', "an amount, such as n1=10%")
		f.Amount = r.amount("%", 1, 100)
	default:
		f.Hosts = []string{r.host("@")}
	}
}

func (r *faultReader) groups(f *Fault) {
	var seen []string
	f.Group = [][]string{{}}
	for {
		at := r.pos
		name := r.host("@,|")
		if slices.Contains(seen, name) {
			r.fail(at, "%s is in two groups, or twice in one", name)
		}
		seen = append(seen, name)
		last := &f.Group[len(f.Group)-1]
		*last = append(*last, name)
		switch {
		case r.err != nil:
			return
		case r.accept(','):
		case r.accept('|'):
			f.Group = append(f.Group, nil)
		default:
			if len(f.Group) < 2 {
				r.fail(r.pos, "a partition has two groups or more: write n1,n2|n3")
			}
			return
		}
	}
}

func (r *faultReader) host(stops string) string {
	name, at := r.word(stops)
	if name == "" {
		r.fail(at, "a host's name is expected here")
	}
	for i, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.') {
			r.fail(at+i, "%q cannot be in a host's name", c)
		}
	}
	if len(r.hosts) > 0 && !slices.Contains(r.hosts, name) {
		r.fail(at, "there is no host %q; there are %s", name, strings.Join(r.hosts, ", "))
	}
	return name
}

func (r *faultReader) amount(unit string, lo, hi int) int {
	text, at := r.word("@")
	digits, ok := strings.CutSuffix(text, unit)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < lo || n > hi {
		r.fail(at, "%q is not an amount from %d to %d%s", text, lo, hi, unit)
	}
	return n
}

func (r *faultReader) duration() time.Duration {
	text, at := r.word("+ \t")
	d, err := time.ParseDuration(text)
	if err != nil || text[0] < '0' || text[0] > '9' || d > MaxPlan {
		r.fail(at, "%q is not a time from 0 to %v, such as 1.5s or 200ms", text, MaxPlan)
		return 0
	}
	return d
}
