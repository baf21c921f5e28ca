package library

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
)

// setting is a statement of the language that is not a step, and a flag of the
// command of the same name.
type setting struct {
	name string
	// help is for the command line, with the default at its end if that is not
	// plain.
	help string
	set  func(s *Spec, value string) error
	// show is the value as it would be written; nil: it is only for files.
	show func(s *Spec) string
	// words are all values, if they can be listed.
	words []string
}

func settings() []setting {
	return []setting{
		number("nodes", fmt.Sprintf("how many nodes, 1 to %d", MaxNodes), 1, MaxNodes, func(s *Spec) *int { return &s.Nodes }),
		number("late", "how many more nodes wait for a start", 0, MaxNodes, func(s *Spec) *int { return &s.Late }),
		oneOf("two-nodes", "who decides between two", []string{"", "witness", "preferred"}, func(s *Spec) *string { return &s.TwoNodes }),
		oneOf("lan", "what connects them", lans(), func(s *Spec) *string { return &s.LAN }),
		oneOf("mac-mode", "the shared MAC", []string{"multicast", "igmp", "unicast"}, func(s *Spec) *string { return &s.MACMode }),
		oneOf("router", "what is between clients and nodes", routers(), func(s *Spec) *string { return &s.Router }),
		duration("membership", "for how long a snooping switch keeps a member", leastMembership, func(s *Spec) *time.Duration { return &s.Membership }),
		number("clients", fmt.Sprintf("how many, 1 to %d", MaxClients), 1, MaxClients, func(s *Spec) *int { return &s.Clients }),
		oneOf("users", "what clients do", []string{"web", "ssh", "ping"}, func(s *Spec) *string { return &s.Users }),
		oneOf("tcp", "what is behind the gates", []string{"model", "netstack"}, func(s *Spec) *string { return &s.TCP }),
		oneOf("path", "the way to the service", []string{"netstack", "direct"}, func(s *Spec) *string { return &s.Path }),
		number("nat", "how many clients share an address", 0, MaxClients, func(s *Spec) *int { return &s.NAT }),
		duration("every", "between two requests of a client", 10*time.Millisecond, func(s *Spec) *time.Duration { return &s.Every }),
		{"affinity", "which clients stay together", func(s *Spec, v string) (err error) {
			if s.Affinity, err = hashing.ParseAffinity(v); err != nil {
				err = fmt.Errorf("%q is not an affinity; write source-ip, source-net, source-ip-port or source-ip-port-dest-port", v)
			}
			return err
		}, func(s *Spec) string { return s.Affinity.String() }, []string{"source-ip", "source-net", "source-ip-port", "source-ip-port-dest-port"}},
		oneOf("timing", "lease time", []string{cluster.LAN, cluster.Fast, cluster.Calm}, func(s *Spec) *string { return &s.Timing }),
		{"seed", "where all chance comes from", func(s *Spec, v string) (err error) {
			if s.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
				err = fmt.Errorf("%q is not a seed; write a number from 0", v)
			}
			return err
		}, func(s *Spec) string { return strconv.FormatUint(s.Seed, 10) }, nil},
		duration("duration", "how long, in virtual time", time.Second, func(s *Spec) *time.Duration { return &s.Duration }),
		{"without", "rules to switch off: " + strings.Join(rules(), ", "), setWithout, func(s *Spec) string { return strings.Join(s.Without, ",") }, rules()},
		{"not", "take a step of the scenario out: 'kill n2@5s'", func(s *Spec, v string) error {
			n := len(s.Steps)
			if s.Steps = slices.DeleteFunc(s.Steps, func(st Step) bool { return st.line == v }); len(s.Steps) == n {
				return fmt.Errorf("there is no step `%s` to take out", v)
			}
			return nil
		}, func(*Spec) string { return "" }, nil},
		{"title", "", func(s *Spec, v string) error { s.Title = v; return nil }, nil, nil},
		{"about", "", func(s *Spec, v string) error { s.About = strings.TrimSpace(s.About + " " + v); return nil }, nil, nil},
		{"link", "", func(s *Spec, v string) error {
			if !strings.HasPrefix(v, "https://") && !strings.HasPrefix(v, "http://") {
				return fmt.Errorf("%q is no link; write one with https://", v)
			}
			s.Links = append(s.Links, v)
			return nil
		}, nil, nil},
		{"expect", "", setExpect, nil, nil},
		{"off", "", setOff, nil, nil},
	}
}

func number(name, help string, lo, hi int, at func(*Spec) *int) setting {
	return setting{name, help, func(s *Spec, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("%s is %s; write a number from %d to %d", name, v, lo, hi)
		}
		*at(s) = n
		return nil
	}, func(s *Spec) string { return strconv.Itoa(*at(s)) }, nil}
}

func oneOf(name, help string, words []string, at func(*Spec) *string) setting {
	named := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	return setting{name, help + ": " + strings.Join(named, ", "), func(s *Spec, v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("there is no %s %q; write %s", name, v, alternatives(named))
		}
		*at(s) = v
		return nil
	}, func(s *Spec) string { return *at(s) }, named}
}

func duration(name, help string, least time.Duration, at func(*Spec) *time.Duration) setting {
	return setting{name, help, func(s *Spec, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < least || d > MaxDuration {
			return fmt.Errorf("%s is %q; write a time from %v to %v, such as 20s or 2m", name, v, least, MaxDuration)
		}
		*at(s) = d
		return nil
	}, func(s *Spec) string { return at(s).String() }, nil}
}

// alternatives is "a, b or c".
func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Rules that can be switched off.
const (
	icmpOwner     = "icmp-owner"
	arpOwner      = "arp-owner"
	failover      = "failover"
	leastMoves    = "least-moves"
	groupFloods   = "group-flooding"
	checkPatience = "check-patience"
	handover      = "handover"
	flowLists     = "flow-lists"
	lastSYN       = "last-syn"
)

func rules() []string {
	return []string{icmpOwner, arpOwner, failover, leastMoves, groupFloods, checkPatience, handover, flowLists, lastSYN}
}

func setWithout(s *Spec, v string) error {
	s.Without = nil
	for _, w := range strings.Split(v, ",") {
		w = strings.TrimSpace(w)
		if !slices.Contains(rules(), w) {
			return fmt.Errorf("there is no rule %q to do without; there are %s", w, alternatives(rules()))
		}
		s.Without = append(s.Without, w)
	}
	return nil
}

func setExpect(s *Spec, v string) error {
	s.Expect = nil
	if v == "healthy" {
		return nil
	}
	for _, code := range strings.Split(v, ",") {
		code = strings.TrimSpace(code)
		if !slices.Contains(Codes(), code) {
			return fmt.Errorf("nothing is ever found that is called %q; write healthy, or some of %s", code, strings.Join(Codes(), ", "))
		}
		s.Expect = append(s.Expect, code)
	}
	return nil
}

// setOff keeps a statement that Load checks on a copy.
func setOff(s *Spec, v string) error {
	s.Off = append(s.Off, v)
	return nil
}

// has tells whether a rule is switched off.
func (s *Spec) has(rule string) bool { return slices.Contains(s.Without, rule) }
