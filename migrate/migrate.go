package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"onevoice/config"
)

// Input is a text and where it is from.
type Input struct {
	// Name is the file's, for what is told.
	Name string
	// Node is the name of the host whose rules these are, "" where that is not known.
	Node string
	Data []byte
}

// Shared is one address that is shared, as one input has it.
type Shared struct {
	From Line
	// Node is the host's name, "" where it is not known. Local are its numbers, as the
	// other system counts; nil where all hosts are meant.
	Node  string
	Local []int
	// Address is not valid where the rule names none. Bits are its network's length, 0
	// where that is not known.
	Address   netip.Addr
	Bits      int
	Interface string
	// MAC is "" where it is not known.
	MAC      string
	Affinity config.Affinity
	Sharing  config.Sharing
	// Ports are those that the rule is about; none: all. open: they come from rules that
	// let clients in.
	Ports []Port
	open  bool
	// Nodes are the names of all hosts, where they are known without their numbers.
	Nodes []string
}

// Port is a port of a protocol, "tcp" or "udp".
type Port struct {
	Proto  string
	Number uint16
}

// Line is a line of an input, from 1 on; 0 is all of it.
type Line struct {
	File   string
	Number int
}

// Left is something that was not carried over.
type Left struct {
	Line Line
	Why  string
}

func (l Left) String() string {
	if l.Line.Number == 0 {
		return fmt.Sprintf("%s: %s", l.Line.File, l.Why)
	}
	return fmt.Sprintf("%s:%d: %s", l.Line.File, l.Line.Number, l.Why)
}

// Bounds of an input. Rules of thousands of lines are rare and have been seen.
const (
	MaxInputBytes = 8 << 20
	maxLeft       = 100
)

var errNoFormat = errors.New("this is neither the output of iptables-save, ip6tables-save or nft list ruleset, nor Pacemaker's (cibadmin --query, crm configure show, pcs resource config)")

// Parse reads an input of any format.
func Parse(in Input) ([]Shared, []Left, error) {
	if len(in.Data) > MaxInputBytes {
		return nil, nil, fmt.Errorf("%s: the text is too long; at most %d bytes are read", in.Name, MaxInputBytes)
	}
	r := &reading{in: in}
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(in.Data), []byte("<")):
		if err := r.cib(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", in.Name, err)
		}
	case r.any("*", "-A "):
		r.iptables()
	case r.any("table "):
		r.nft()
	case r.any("primitive ", "clone "):
		r.crm()
	case r.any("Clone:", "Resource:", "Resources:"):
		r.pcs()
	default:
		return nil, nil, fmt.Errorf("%s: %w", in.Name, errNoFormat)
	}
	if len(r.left) > maxLeft {
		more := len(r.left) - maxLeft
		r.left = append(r.left[:maxLeft], Left{Line{File: in.Name}, fmt.Sprintf("and %d lines more", more)})
	}
	return r.shared, r.left, nil
}

// reading is an input while it is read.
type reading struct {
	in     Input
	shared []Shared
	left   []Left
}

// any reports whether a line begins with one of the words.
func (r *reading) any(words ...string) bool {
	for line := range strings.Lines(string(r.in.Data)) {
		line = strings.TrimSpace(line)
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(line, w) }) {
			return true
		}
	}
	return false
}

// lines are the lines of the text, trimmed, with their numbers from 1 on.
func (r *reading) lines(each func(number int, line string)) {
	n := 0
	for line := range strings.Lines(string(r.in.Data)) {
		n++
		each(n, strings.TrimSpace(line))
	}
}

func (r *reading) leave(line int, format string, args ...any) {
	r.left = append(r.left, Left{Line{r.in.Name, line}, fmt.Sprintf(format, args...)})
}

// add keeps what was found, with the numbers that a rule lets pass.
func (r *reading) add(line int, s Shared) {
	s.From, s.Node = Line{r.in.Name, line}, r.in.Node
	r.shared = append(r.shared, s)
}

// kept are the numbers that are answered where a rule meets a set of numbers, or all
// but the set, and drops what it meets or lets it pass.
func kept(set []int, negated, drops bool, first, total int) (out []int) {
	for n := first; n < first+total; n++ {
		if slices.Contains(set, n) != (negated != drops) {
			out = append(out, n)
		}
	}
	return out
}
