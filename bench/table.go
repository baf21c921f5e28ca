package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Widths of a table of all paths, in columns: 80 in all.
const (
	labelColumns = 26
	cellColumns  = 9
)

// shortTitle is a path's name in the head of a table.
func shortTitle(name string) string {
	switch name {
	case XTCluster:
		return "xt_clust"
	case HAProxy:
		return "HAProxy"
	case OneVoiceTransparent:
		return "transp."
	}
	return name
}

// Table writes a report for people. Bold is for terminals.
func (r *Report) Table(out io.Writer, bold bool) {
	var shown []PathInfo
	for _, p := range r.Paths {
		if p.Missing == "" {
			shown = append(shown, p)
		}
	}
	paint := func(text string) string {
		if !bold {
			return text
		}
		return "\x1b[1m" + text + "\x1b[0m"
	}
	head := fmt.Sprintf("%-*s", labelColumns, "MEDIAN, SPREAD, RATIO")
	for _, p := range shown {
		head += fmt.Sprintf("%*s", cellColumns, shortTitle(p.Name))
	}
	fmt.Fprintln(out, paint(head))
	for i := range r.Rows {
		r.Rows[i].write(out, shown, paint)
	}
	fmt.Fprintln(out)
	r.notes(out)
}

// write writes a row in three lines: medians, spreads, and ratios of ours.
func (row *Row) write(out io.Writer, shown []PathInfo, paint func(string) string) {
	if row.Missing != "" {
		fmt.Fprintf(out, "%-*s%s; skipped\n", labelColumns, row.Title, row.Missing)
		return
	}
	medians, spreads, ratios := "", "", ""
	for _, p := range shown {
		c := row.Cells[p.Name]
		median, apart, ratio := "-", "", ""
		switch {
		case c == nil:
		case c.NotSupported:
			median = "no"
		case c.Spread != nil:
			median, apart = digits(c.Median), fmt.Sprintf("±%.0f%%", c.percent())
			if len(c.Failed) > 0 {
				apart += "!"
			}
		case len(c.Failed) > 0:
			median = "failed"
		}
		if times, ok := row.ratio(OneVoice, p.Name); ok && p.Name != OneVoice {
			ratio = fmt.Sprintf("%.2f", times)
		}
		medians += fmt.Sprintf("%*s", cellColumns, median)
		spreads += fmt.Sprintf("%*s", cellColumns, apart)
		ratios += fmt.Sprintf("%*s", cellColumns, ratio)
	}
	fmt.Fprintln(out, paint(fmt.Sprintf("%-*s", labelColumns, row.Title)+medians))
	unit := row.Unit
	if row.LessIsBetter {
		unit += ", less is better"
	}
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s", labelColumns-2, unit)+spreads, " "))
	if strings.TrimSpace(ratios) != "" {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s", labelColumns-2, "onevoice to each")+ratios, " "))
	}
}

// digits writes a number with about three digits.
func digits(x float64) string {
	switch size := math.Abs(x); {
	case size >= 100_000:
		return fmt.Sprintf("%.0fk", x/1000)
	case size >= 100:
		return fmt.Sprintf("%.0f", x)
	case size >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// busyWarning is how busy a machine may be without a word, in percent.
const busyWarning = 5

// notes are what a table has no room for.
func (r *Report) notes(out io.Writer) {
	e := r.Environment
	fmt.Fprintf(out, "%d rounds of %s s each on %s, %d processors, Linux %s\n", r.Rounds, digits(r.SecondsEach), e.CPU, e.Processors, e.Kernel)
	if n := r.IdleMost; n > 0 && n < idleMany {
		fmt.Fprintf(out, "idle connections were %d at most, as many as a proxy can hold with the\nopen files that this machine allows (ulimit -Hn)\n", n)
	}
	if e.BusyPercent > busyWarning {
		fmt.Fprintf(out, "others used %.0f %% of the machine just before; figures may be wrong\n", e.BusyPercent)
	}
	if p := r.Path(r.LatencyReference); p != nil {
		fmt.Fprintf(out, "latency at %.0f requests/s, half of what %s does\n", r.LatencyRate, p.Title)
	}
	for _, p := range r.Paths {
		if p.Missing != "" {
			fmt.Fprintf(out, "%s was skipped: %s; `make bench-deps` installs it\n", p.Title, p.Missing)
		}
	}
	for _, row := range r.Rows {
		for _, p := range r.Paths {
			if c := row.Cells[p.Name]; c != nil {
				for _, f := range c.Failed {
					fmt.Fprintf(out, "! %s, %s, %s\n", row.Title, p.Title, f)
				}
			}
		}
	}
}
