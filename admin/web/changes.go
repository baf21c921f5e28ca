package web

import (
	"fmt"
	"slices"
	"strings"

	"onevoice/admin"
)

// changes are what happened between two looks, in words. The first look says how
// things stand.
func changes(before, now *admin.Status) []Event {
	if before == nil {
		return []Event{{Level: Info, Text: fmt.Sprintf("%s of cluster %s is watched from here on", now.Node, now.Cluster)}}
	}
	var out []Event
	say := func(level Level, format string, args ...any) {
		out = append(out, Event{Level: level, Text: fmt.Sprintf(format, args...)})
	}
	switch {
	case now.Uptime < before.Uptime:
		say(Info, "the daemon of %s was started again", now.Node)
	case before.Leased && !now.Leased:
		say(Bad, "%s may not answer: its lease has run out", now.Node)
	case !before.Leased && now.Leased:
		say(Good, "%s may answer: it has a lease", now.Node)
	}
	nodeChanges(before, now, say)
	serviceChanges(before, now, say)
	for _, w := range now.Warnings {
		if !slices.Contains(subjects(before.Warnings), subject(w)) {
			say(Bad, "%s", w)
		}
	}
	for _, w := range before.Warnings {
		if !slices.Contains(subjects(now.Warnings), subject(w)) {
			// What was to be done about it stands behind it.
			what, _, _ := strings.Cut(w, "; ")
			say(Good, "over: %s", what)
		}
	}
	return out
}

// subject is a warning without its numbers, which change while it stays.
func subject(warning string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, warning)
}

func subjects(warnings []string) (out []string) {
	for _, w := range warnings {
		out = append(out, subject(w))
	}
	return out
}

type sayer func(level Level, format string, args ...any)

func nodeChanges(before, now *admin.Status, say sayer) {
	for i := range now.Nodes {
		n := &now.Nodes[i]
		if was := find(before.Nodes, n.ID); was != nil {
			nodeChange(was, n, say)
		} else {
			say(Info, "%s (%s) is a member", n.Name, n.Address)
		}
	}
	for i := range before.Nodes {
		if n := &before.Nodes[i]; find(now.Nodes, n.ID) == nil {
			say(Info, "%s (%s) is no member any more", n.Name, n.Address)
		}
	}
}

func find(nodes []admin.NodeStatus, id string) *admin.NodeStatus {
	if i := slices.IndexFunc(nodes, func(n admin.NodeStatus) bool { return n.ID == id }); i >= 0 {
		return &nodes[i]
	}
	return nil
}

func nodeChange(was, n *admin.NodeStatus, say sayer) {
	switch {
	case !was.In && n.In:
		say(Good, "%s is in, and takes its share", n.Name)
	case was.In && !n.In && n.Orphaned:
		say(Bad, "%s is taken for dead; the others have its buckets and reset its flows", n.Name)
	case was.In && !n.In:
		say(Bad, "%s is out; the others have its buckets", n.Name)
	case !was.Orphaned && n.Orphaned:
		say(Bad, "%s is taken for dead; its flows are reset", n.Name)
	}
	switch {
	case !was.Draining && n.Draining:
		say(Info, "%s drains", n.Name)
	case was.Draining && !n.Draining:
		say(Info, "%s is not drained any more", n.Name)
	}
	if was.Weight != n.Weight {
		say(Info, "the weight of %s is %d, and was %d", n.Name, n.Weight, was.Weight)
	}
	if was.Buckets != n.Buckets {
		say(Info, "%s has %d buckets, and had %d", n.Name, n.Buckets, was.Buckets)
	}
	if !was.Leader && n.Leader {
		say(Info, "%s leads", n.Name)
	}
	for _, s := range n.Down {
		if !slices.Contains(was.Down, s) {
			say(Bad, "%s says that its service %s is down", n.Name, s)
		}
	}
	for _, s := range was.Down {
		if !slices.Contains(n.Down, s) {
			say(Good, "%s says that its service %s is up", n.Name, s)
		}
	}
}

func serviceChanges(before, now *admin.Status, say sayer) {
	for i := range now.Services {
		s := &now.Services[i]
		for j := range before.Services {
			switch was := &before.Services[j]; {
			case was.Name != s.Name:
			case was.Up && !s.Up:
				say(Bad, "service %s is down here: %s does not accept", s.Name, s.Backend)
			case !was.Up && s.Up:
				say(Good, "service %s is up here", s.Name)
			}
		}
	}
}
