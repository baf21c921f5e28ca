package bench

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Widths of a table of all paths, in columns: 80 in all.
const (
	labelColumns = 24
	cellColumns  = 8
)

// shortTitle is a path's name in the head of a table.
func shortTitle(name string) string {
	switch name {
	case XTCluster:
		return "xt_clu."
	case HAProxy:
		return "HAProxy"
	case OneVoice:
		return "ours"
	case OneVoiceTransparent:
		return "transp."
	case OneVoiceDirect:
		return "direct"
	}
	return name
}

// Table writes a report for people. Bold is for terminals.
func (r *Report) Table(out io.Writer, bold bool) {
	shown := r.shown()
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

// write writes a row in lines: medians, spreads, and ratios of ours, of both paths.
func (row *Row) write(out io.Writer, shown []PathInfo, paint func(string) string) {
	if row.Missing != "" {
		fmt.Fprintf(out, "%-*s%s; skipped\n", labelColumns, row.Title, row.Missing)
		return
	}
	medians, spreads := "", ""
	for _, p := range shown {
		c := row.Cells[p.Name]
		median, apart := "-", ""
		switch {
		case c == nil:
		case c.NotSupported:
			median = "no"
		case c.Spread != nil:
			median, apart = digits(c.Median), c.percentText()
			if len(c.Failed) > 0 {
				apart += "!"
			}
		case len(c.Failed) > 0:
			median = "failed"
		}
		medians += fmt.Sprintf("%*s", cellColumns, median)
		spreads += fmt.Sprintf("%*s", cellColumns, apart)
	}
	fmt.Fprintln(out, paint(fmt.Sprintf("%-*s", labelColumns, row.Title)+medians))
	unit := row.Unit
	if row.LessIsBetter {
		unit += ", less better"
	}
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s", labelColumns-2, unit)+spreads, " "))
	row.writeRatios(out, shown, OneVoice)
	row.writeRatios(out, shown, OneVoiceDirect)
}

// writeRatios writes what one of ours is to each, if there is anything to say.
func (row *Row) writeRatios(out io.Writer, shown []PathInfo, ours string) {
	ratios := ""
	for _, p := range shown {
		ratio := ""
		if times, ok := row.ratio(ours, p.Name); ok && p.Name != ours {
			ratio = digits(times)
		}
		ratios += fmt.Sprintf("%*s", cellColumns, ratio)
	}
	if strings.TrimSpace(ratios) != "" {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-*s", labelColumns-2, shortTitle(ours)+" to each")+ratios, " "))
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
	for _, note := range r.noteLines() {
		fmt.Fprintln(out, folded(note))
	}
}

// noteLines are sentences, each for a line of its own.
func (r *Report) noteLines() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	e := r.Environment
	rounds := "rounds"
	if r.Rounds == 1 {
		rounds = "round"
	}
	say("%d %s of %s s each on %s, %d processors, Linux %s", r.Rounds, rounds, digits(r.SecondsEach), e.CPU, e.Processors, e.Kernel)
	say("onevoice %s; %s", cmp.Or(e.Commit, "of an unknown commit"), e.versions())
	if r.MACMode != "" {
		say("onevoice with mac_mode %q", r.MACMode)
	}
	if e.BusyPercent > busyWarning {
		say("others used %.0f %% of the machine just before; figures may be wrong", e.BusyPercent)
	}
	if p := r.Path(r.LatencyReference); p != nil {
		say("latency at %.0f requests/s, half of what %s does", r.LatencyRate, p.Title)
	}
	if n := r.IdleMost; n > 0 && n < idleMany {
		say("idle connections: %d at most, for open files are limited here (ulimit -Hn)", n)
	}
	for _, p := range r.Paths {
		if p.Missing != "" {
			say("%s was skipped: %s; `make bench-deps` installs it", p.Title, p.Missing)
		}
	}
	return append(out, r.failures()...)
}

// failures are the turns that gave nothing, once for all rows of a test.
func (r *Report) failures() (out []string) {
	for _, row := range r.Rows {
		for _, p := range r.Paths {
			c := row.Cells[p.Name]
			if c == nil {
				continue
			}
			for _, f := range c.Failed {
				line := fmt.Sprintf("! %s, %s, %s", row.Test, p.Title, f)
				if !slices.Contains(out, line) {
					out = append(out, line)
				}
			}
		}
	}
	return out
}

// folded breaks a sentence to the width of a terminal. Failures stay whole, for
// somebody may want to search for them.
func folded(note string) string {
	if strings.HasPrefix(note, "!") {
		return note
	}
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(note) {
		n := utf8.RuneCountInString(word)
		switch {
		case i > 0 && column+1+n > columns:
			b.WriteString("\n  ")
			column = 2
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
