package library

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"onevoice/sim"
)

// MaxFile bounds a scenario file, in bytes.
const MaxFile = 1 << 20

// Parse reads a scenario: one statement a line, empty lines and what follows a #
// at a line's beginning or behind a space do not count.
//
//	title  A node dies under SSH users      what it is, in a line
//	nodes  4                                a setting and its value
//	kill   n2@5s+3s                         a step: what happens to whom, when, for how long
//	expect healthy                          or the codes of what is to be found
//
// An error begins with name and line.
func Parse(name, text string) (*Spec, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: %d bytes are too many for a scenario; at most %d", name, len(text), MaxFile)
	}
	s := New()
	s.Name = name
	at := map[string]int{}
	// Settings come first, for steps name hosts that settings make.
	for _, steps := range []bool{false, true} {
		for i, line := range strings.Split(text, "\n") {
			line = statement(line)
			word, _, _ := strings.Cut(line, " ")
			if line == "" || isStep(word) != steps {
				continue
			}
			if err := s.onlyOnce(word, i+1, at); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
			}
			if err := s.Apply(line); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
			}
		}
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, s.checkOff(name)
}

// statement is a line without its comment, words one space apart.
func statement(line string) string {
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return ""
	}
	line, _, _ = strings.Cut(line, " #")
	return strings.Join(strings.Fields(line), " ")
}

// onlyOnce refuses a setting that is there already.
func (s *Spec) onlyOnce(word string, line int, at map[string]int) error {
	if isStep(word) || slices.Contains([]string{"about", "link", "off", "not"}, word) {
		return nil
	}
	if before, ok := at[word]; ok {
		return fmt.Errorf("%s is set in line %d already; leave one of them out", word, before)
	}
	at[word] = line
	return nil
}

// checkOff tries what is to turn the verdict red.
func (s *Spec) checkOff(name string) error {
	for _, off := range s.Off {
		if _, err := s.With(off); err != nil {
			return fmt.Errorf("%s: off %s: %w", name, off, err)
		}
	}
	return nil
}

// With is a copy with a statement on top.
func (s *Spec) With(line string) (*Spec, error) {
	c := *s
	c.Steps, c.Without = slices.Clone(s.Steps), slices.Clone(s.Without)
	if err := c.Apply(statement(line)); err != nil {
		return nil, err
	}
	return &c, c.Check()
}

// Apply puts one statement into force.
func (s *Spec) Apply(line string) error {
	word, value, _ := strings.Cut(line, " ")
	value = strings.TrimSpace(value)
	if isStep(word) {
		st, err := s.step(word, value)
		if err != nil {
			return err
		}
		s.Steps = append(s.Steps, st)
		return nil
	}
	for _, k := range settings() {
		if k.name == word {
			if value == "" {
				return fmt.Errorf("%s needs a value behind it", word)
			}
			return k.set(s, value)
		}
	}
	return fmt.Errorf("there is no %q; settings are %s; steps are %s", word, strings.Join(settingNames(), ", "), strings.Join(Verbs(), ", "))
}

func settingNames() (out []string) {
	for _, k := range settings() {
		out = append(out, k.name)
	}
	return out
}

// verb is a step of this package's own.
type verb struct {
	name, help string
	// lasts: it may have an end. amount: a number follows the host behind =, from 0
	// to it.
	lasts  bool
	amount int
	// of: what it is about; "" is a host.
	of string
}

// What steps may be about beside hosts.
const (
	ofTrunk  = "trunk"
	ofRouter = "router"
)

func ownVerbs() []verb {
	return []verb{
		{name: "start", help: "a late node is switched on"},
		{name: "drain", help: "an operator takes its share away", lasts: true},
		{name: "undrain", help: "and gives it back"},
		{name: "weight", help: "another weight: n1=50@5s", amount: 10_000},
		{name: "restart", help: "only its control process, as an upgrade does", lasts: true},
		{name: "stall", help: "the host stands still, its clock goes on", lasts: true},
		{name: "service-down", help: "its service fails its check", lasts: true},
		{name: "service-flaps", help: "its check fails now and then", lasts: true},
		{name: "unheard", help: "clients do not hear it, and nodes do", lasts: true},
		{name: "unreached", help: "it does not hear clients, and hears nodes", lasts: true},
		{name: "trunk-down", help: "a trunk is pulled: t1@5s+2s", lasts: true, of: ofTrunk},
		{name: "trunk-oneway", help: "it carries nothing from sw1 to sw2: t1@5s+2s", lasts: true, of: ofTrunk},
		{name: "router-down", help: "a router is gone: r1@5s+2s", lasts: true, of: ofRouter},
	}
}

// Verbs are all verbs of steps.
func Verbs() (out []string) {
	for _, v := range ownVerbs() {
		out = append(out, v.name)
	}
	return append(out, sim.Kinds()...)
}

func isStep(word string) bool { return slices.Contains(Verbs(), word) }

func (s *Spec) step(word, value string) (Step, error) {
	line := word + " " + value
	for _, v := range ownVerbs() {
		if v.name == word {
			st, err := v.parse(value, s.targets(v.of))
			st.line = line
			if err != nil {
				err = fmt.Errorf("`%s`: %w", line, err)
			}
			return st, err
		}
	}
	f, err := sim.ParseFault(line, s.hosts())
	if err != nil {
		return Step{}, fmt.Errorf("`%s`, %w", line, err)
	}
	return Step{At: f.At, For: f.For, Verb: word, Fault: &f, line: line}, nil
}

// targets are the names that a verb may be about.
func (s *Spec) targets(of string) []string {
	switch of {
	case ofTrunk:
		return s.trunkNames()
	case ofRouter:
		return s.routerNames()
	}
	return s.hosts()
}

// missing says that there is no such name.
func (v *verb) missing(name string, names []string) error {
	switch {
	case len(names) == 0 && v.of == ofTrunk:
		return fmt.Errorf("this LAN has no trunk; use lan dual, dual-tree or dual-loop")
	case len(names) == 0:
		return fmt.Errorf("there is no router; add one with router")
	}
	return fmt.Errorf("there is no %s %q; there are %s", cmp.Or(v.of, "host"), name, strings.Join(names, ", "))
}

// parse reads HOST@TIME, HOST=AMOUNT@TIME, HOST@TIME+TIME.
func (v *verb) parse(value string, hosts []string) (st Step, err error) {
	st.Verb = v.name
	host, when, ok := strings.Cut(value, "@")
	if !ok {
		return st, fmt.Errorf("when is missing; write such as %s n1%s@5s", v.name, map[bool]string{true: "=50"}[v.amount > 0])
	}
	if v.amount > 0 {
		var text string
		host, text, _ = strings.Cut(host, "=")
		if st.Amount, err = strconv.Atoi(text); err != nil || st.Amount < 0 || st.Amount > v.amount {
			return st, fmt.Errorf("%q is not an amount; write such as n1=50, from 0 to %d", text, v.amount)
		}
	}
	if st.Host = strings.TrimSpace(host); !slices.Contains(hosts, st.Host) {
		return st, v.missing(st.Host, hosts)
	}
	at, length, ends := strings.Cut(when, "+")
	if st.At, err = stepTime(at); err != nil || !ends {
		return st, err
	}
	if !v.lasts {
		return st, fmt.Errorf("%s happens at once; leave +%s out", v.name, length)
	}
	if st.For, err = stepTime(length); err == nil && st.For == 0 {
		err = fmt.Errorf("what lasts, lasts longer than 0; leave it out for good")
	}
	return st, err
}

func stepTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxDuration {
		return 0, fmt.Errorf("%q is not a time from 0 to %v, such as 1.5s or 200ms", text, MaxDuration)
	}
	return d, nil
}
