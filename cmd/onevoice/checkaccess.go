package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"onevoice/config"
)

// checkedLimit is the limit of a service for programs; what is not limited is 0.
type checkedLimit struct {
	New          int      `json:"new"`
	Per          string   `json:"per"`
	Flows        int      `json:"flows"`
	FlowsPerNode int      `json:"flows_per_node"`
	IPv4Prefix   int      `json:"ipv4_prefix"`
	IPv6Prefix   int      `json:"ipv6_prefix"`
	Action       string   `json:"action"`
	Exempt       []string `json:"exempt,omitempty"`
}

func limitChecked(l *config.Limit) *checkedLimit {
	if !l.Any() {
		return nil
	}
	return &checkedLimit{
		New: l.New, Per: l.Per.String(), Flows: l.Flows, FlowsPerNode: l.FlowsPerNode,
		IPv4Prefix: l.IPv4Prefix, IPv6Prefix: l.IPv6Prefix, Action: string(l.Action), Exempt: prefixesText(l.Exempt),
	}
}

func prefixesText(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// checkedList is a file of prefixes for programs.
type checkedList struct {
	File     string `json:"file"`
	Prefixes int    `json:"prefixes"`
}

// checkFiles reads the files of prefixes that a configuration names. The error is about
// the first that a daemon could not use.
func checkFiles(c *config.Config) (out []checkedList, err error) {
	for _, path := range c.PrefixFiles() {
		list, _, err := config.ReadPrefixes(path, c.NeedsPrefixes(path))
		if err != nil {
			return nil, err
		}
		out = append(out, checkedList{path, len(list)})
	}
	return out, nil
}

// printAccess tells whom a service does not admit.
func printAccess(w io.Writer, s *config.Service) {
	if len(s.Access.Allow)+len(s.Access.Deny) > 0 {
		fmt.Fprintf(w, "\tallowed %d prefixes, denied %d, who meet %s\n", len(s.Access.Allow), len(s.Access.Deny), s.DenyAction)
	}
	if a := &s.Access; a.AllowFile != "" {
		fmt.Fprintf(w, "\tallowed besides is who is in %s\n", a.AllowFile)
	}
	if a := &s.Access; a.DenyFile != "" {
		fmt.Fprintf(w, "\tdenied besides is who is in %s\n", a.DenyFile)
	}
	l := &s.Limit
	var limits []string
	if l.New > 0 {
		limits = append(limits, fmt.Sprintf("%d new connections within %s", l.New, l.Per))
	}
	if l.Flows > 0 {
		limits = append(limits, fmt.Sprintf("%d at once", l.Flows))
	}
	if l.FlowsPerNode > 0 {
		limits = append(limits, fmt.Sprintf("%d of all on each node", l.FlowsPerNode))
	}
	if len(limits) > 0 {
		fmt.Fprintf(w, "\tof one source at most %s, then %s\n", strings.Join(limits, ", "), l.Action)
	}
}
