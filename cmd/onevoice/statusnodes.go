package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"onevoice/admin"
	"onevoice/control"
	"onevoice/hashing"
)

// tellsEvery is longer than a node that is there leaves between what it tells.
const tellsEvery = 30 * time.Second

// fillTold fills in what the nodes have told of themselves.
func (d *daemon) fillTold(s *admin.Status) {
	var told control.Examined
	// A loop that has ended knows nothing of others.
	_ = d.loop.Call(func(now time.Duration) { told = d.loop.Cards(now) })
	names := map[string]string{}
	for i := range s.Nodes {
		names[s.Nodes[i].ID] = s.Nodes[i].Name
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Flows, n.Told = -1, -1
		card := told.Own
		if !n.Self {
			card = nil
			if at := slices.IndexFunc(told.Cards, func(c control.HeardCard) bool { return c.ID == n.ID }); at >= 0 {
				card, n.Told = &told.Cards[at].Card, told.Cards[at].Seconds
			}
		} else if card != nil {
			n.Told = 0
		}
		if card == nil {
			continue
		}
		if card.Flows != nil {
			n.Flows = *card.Flows
		}
		for _, id := range card.Hears {
			if name := names[fmt.Sprintf("%x", id)]; name != "" {
				n.Hears = append(n.Hears, name)
			}
		}
	}
}

// printNodes lists the nodes. Buckets are those of the first service: a VIP's own tell
// only who answers for its address.
func printNodes(out io.Writer, s *admin.Status) error {
	if len(s.Nodes) == 0 {
		return nil
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tSTATE\tHEARD\tEPOCH\tBUCKETS\tFLOWS\tDRAINS\tVOTE")
	for i := range s.Nodes {
		n := &s.Nodes[i]
		buckets, drains := "", ""
		if !n.Witness {
			k, of := n.Buckets, hashing.Buckets
			if len(s.Services) > 0 {
				k, of = n.BucketsOf[s.Services[0].Name], max(s.Services[0].BucketsIn, 1)
			}
			buckets, drains = fmt.Sprintf("%3d %3.0f %%", k, 100*float64(k)/float64(of)), fmt.Sprint(admin.Most(n.DrainsOf))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Address, n.State, heardText(n), epochText(n), buckets, flowsText(n), drains, voteText(n))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	// What else there is to a node stands below its address.
	indent := strings.Repeat(" ", max(strings.Index(lines[0], "ADDRESS"), 0))
	for i, line := range lines {
		fmt.Fprintln(out, line)
		if i == 0 {
			continue
		}
		if notes := nodeNotes(&s.Nodes[i-1]); notes != "" {
			fmt.Fprintln(out, wrapped(indent, notes))
		}
	}
	for i, line := range hearsTexts(s) {
		head := "         "
		if i == 0 {
			head = "HEARS    "
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, wrapped(head, line))
	}
	_, err := fmt.Fprintln(out)
	return err
}

// tells reports whether what a node has told is of now.
func tells(n *admin.NodeStatus) bool { return n.Told >= 0 && n.Told < tellsEvery.Seconds() }

// hearsTexts say what each node that may own buckets hears of the others: in one line
// where all hear all. One that is out and speaks is often out for what it does not hear.
func hearsTexts(s *admin.Status) (out []string) {
	var nodes []*admin.NodeStatus
	in := 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if speaks := n.Heard >= 0 && n.Heard < 1 && tells(n); n.Witness || !n.In && !speaks {
			continue
		}
		nodes = append(nodes, n)
		if n.In {
			in++
		}
	}
	if in == 0 || len(nodes) < 2 {
		return nil
	}
	all := true
	for _, n := range nodes {
		var hears, not []string
		for _, o := range nodes {
			switch {
			case o == n || !o.In:
			case slices.Contains(n.Hears, o.Name):
				hears = append(hears, o.Name)
			default:
				not = append(not, o.Name)
			}
		}
		all = all && len(not) == 0 && tells(n)
		switch {
		case n.Told < 0:
			out = append(out, n.Name+" has not told yet")
		case !tells(n):
			out = append(out, n.Name+" has not told lately")
		case len(hears) == 0:
			out = append(out, n.Name+" hears none of the others")
		case len(not) == 0:
			out = append(out, n.Name+" hears all others")
		default:
			out = append(out, fmt.Sprintf("%s hears %s, and not %s", n.Name, strings.Join(hears, ", "), strings.Join(not, ", ")))
		}
	}
	if all {
		return []string{"each node hears all others on the shared MAC"}
	}
	return out
}

// epochText is a node's epoch; a witness has none.
func epochText(n *admin.NodeStatus) string {
	if n.Witness {
		return ""
	}
	return fmt.Sprint(n.Epoch)
}

// flowsText is how many flows a node has, as it has told.
func flowsText(n *admin.NodeStatus) string {
	switch {
	case n.Witness:
		return ""
	case n.Flows < 0 || !tells(n):
		return "?"
	}
	return fmt.Sprint(n.Flows)
}

func voteText(n *admin.NodeStatus) string {
	switch {
	case n.Leader:
		return "leads"
	case n.Voter:
		return "votes"
	}
	return "-"
}

// heardText is how long ago this node heard another.
func heardText(n *admin.NodeStatus) string {
	switch {
	case n.Self:
		return "self"
	case n.Heard < 0:
		return "never"
	case n.Heard < 1:
		return fmt.Sprintf("%.0f ms", 1000*n.Heard)
	}
	return duration(n.Heard)
}

// defaultWeight is a node's when nobody has said another.
const defaultWeight = 100

// nodeNotes says what else there is to a node.
func nodeNotes(n *admin.NodeStatus) string {
	var out []string
	for _, s := range n.Down {
		out = append(out, s+" DOWN")
	}
	if n.Weight != defaultWeight && !n.Witness {
		out = append(out, fmt.Sprintf("weight %d", n.Weight))
	}
	if n.Percent < 100 && !n.Witness {
		out = append(out, fmt.Sprintf("at %d %%", n.Percent))
	}
	return strings.Join(out, ", ")
}
