package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// Columns is how wide text is at most, links apart.
const Columns = 80

// The colours of a terminal, none if it wants none.
type paint struct{ bold, red, green, yellow, dim, off string }

func paintFor(colour bool) paint {
	if !colour {
		return paint{}
	}
	return paint{"\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"}
}

// Text writes the report for a terminal, in colour if that is wanted.
func (r *Report) Text(out io.Writer, colour bool) error {
	t := &text{paint: paintFor(colour)}
	t.head(r)
	t.timeline(r)
	t.answers(r)
	t.nodes(r)
	t.clients(r)
	t.people(r)
	t.verdict(r)
	_, err := io.WriteString(out, t.String())
	return err
}

type text struct {
	strings.Builder
	paint
}

// wrap writes words with an indent of n columns, the first line behind what is
// there already, which is as wide.
func (t *text) wrap(n int, words string) {
	at := n
	for i, w := range strings.Fields(words) {
		l := utf8.RuneCountInString(w)
		switch {
		case i > 0 && at+1+l > Columns:
			t.WriteString("\n" + strings.Repeat(" ", n))
			at = n
		case i > 0:
			t.WriteByte(' ')
			at++
		}
		t.WriteString(w)
		at += l
	}
	t.WriteByte('\n')
}

func (t *text) heading(s string) { t.WriteString("\n" + t.bold + s + t.off + "\n") }

func (t *text) head(r *Report) {
	t.WriteString(t.bold)
	if r.Name != "" {
		t.wrap(0, r.Name+": "+r.Title)
	} else {
		t.wrap(0, r.Title)
	}
	t.WriteString(t.off)
	if r.About != "" {
		t.wrap(0, r.About)
	}
	for _, l := range r.Links {
		t.WriteString("  " + l + "\n")
	}
	var all []string
	for _, s := range r.Settings {
		all = append(all, s.Key+" "+s.Value)
	}
	t.WriteString(t.dim)
	t.wrap(0, strings.Join(all, ", "))
	t.WriteString(t.off)
	for _, l := range r.Limits {
		t.WriteString("note: ")
		t.wrap(6, l)
	}
}

func (t *text) timeline(r *Report) {
	t.heading("Timeline")
	for _, e := range r.Timeline {
		colour := map[Kind]string{Fault: t.red, LAN: t.yellow, Clients: t.yellow, Shares: t.dim}[e.Kind]
		fmt.Fprintf(t, "%9.3fs  %s%-7s%s  ", time.Duration(e.At).Seconds(), colour, e.Kind, t.off)
		t.wrap(21, e.Text)
	}
	if r.Untold > 0 {
		fmt.Fprintf(t, "            and %d more that are not told\n", r.Untold)
	}
}

func (t *text) answers(r *Report) {
	t.heading("Answers per request")
	w := tabwriter.NewWriter(t, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tasked\texactly one\tnone\ttwo or more\t")
	for _, a := range r.Answers {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", a.What, a.Asked, a.One, a.None, a.More)
	}
	_ = w.Flush() // a strings.Builder takes all
}

// barColumns is how wide the share of all buckets is drawn.
const barColumns = 40

func (t *text) nodes(r *Report) {
	t.heading("Nodes at the end")
	fmt.Fprintf(t, "%-8s %7s  %-*s %7s %7s\n", "", "buckets", barColumns, "", "served", "clients")
	for _, n := range r.Nodes {
		bar := strings.Repeat("#", (n.Buckets*barColumns+128)/256)
		if !n.Alive {
			bar = "down"
		}
		fmt.Fprintf(t, "%-8s %7d  %-*s %7d %7d\n", n.Name, n.Buckets, barColumns, bar, n.Served, n.Clients)
	}
}

func (t *text) clients(r *Report) {
	if len(r.Clients) == 0 {
		return
	}
	t.heading("Who would have answered")
	fmt.Fprintf(t, "%-16s %8s %12s  %s\n", "", "frames", "connections", "by")
	for i, c := range r.Clients {
		if i == MostClients {
			fmt.Fprintf(t, "and %d more; --json has all\n", len(r.Clients)-i)
			break
		}
		by := strings.Join(c.Nodes, " ")
		if by == "" {
			by = "nobody"
		}
		fmt.Fprintf(t, "%-16s %8d %12d  ", c.Address, c.Frames, c.Connections)
		t.wrap(39, by)
	}
}

func (t *text) people(r *Report) {
	t.heading("What users noticed")
	if r.Failover > 0 {
		t.wrap(0, fmt.Sprintf("Failover: some buckets had no owner for %v.", r.Failover))
	}
	t.wrap(0, fmt.Sprintf("The longest that a client got no answer: %v.", r.Waited))
	if s := r.Sessions; s.Open > 0 {
		line := fmt.Sprintf("Sessions: %d were open, %d untouched", s.Open, s.Untouched)
		if s.Reset > 0 {
			line += fmt.Sprintf(", %d reset for their node was gone (the slowest %v after)", s.Reset, s.SlowestReset)
		}
		line += fmt.Sprintf(", %d cut though their node lived, %d hang.", s.Cut, s.Hanging)
		t.wrap(0, line)
	}
	if m := r.Moved; m.Clients > 0 {
		line := fmt.Sprintf("Clients that came to another node than before: %d of %d.", m.Moved, m.Clients)
		if m.Kernel >= 0 {
			line += fmt.Sprintf(" CLUSTERIP's hash would have moved %d.", m.Kernel)
		}
		t.wrap(0, line)
	}
}

func (t *text) verdict(r *Report) {
	for _, q := range r.Quiet {
		t.WriteString("\n" + t.yellow + "! " + t.off)
		t.wrap(2, "this fault struck nothing: "+q+". Nothing was there for it to drop, delay or stop in that time; begin it at another.")
	}
	colour := t.green
	if !r.AsExpected {
		colour = t.red
	}
	t.WriteString("\n" + colour + t.bold + "Verdict: ")
	t.wrap(9, r.Verdict())
	t.WriteString(t.off)
	for _, f := range r.Findings {
		t.WriteString("- ")
		t.wrap(2, f.Text)
		if f.Mend != "" {
			t.WriteString("  mend: ")
			t.wrap(8, f.Mend)
		}
	}
	if !r.AsExpected {
		t.WriteString("again: " + r.Command + "\n")
	}
}
