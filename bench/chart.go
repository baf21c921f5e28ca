package bench

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// chart is a report as bars, for the picture and the page.
type chart struct {
	*Report
	Rows []chartRow
	// Notes are sentences: where it was measured, and what went wrong.
	Notes []string
	// Size of the picture.
	Width, Height int
}

// chartRow is a row of the report.
type chartRow struct {
	Title, Unit string
	// Missing says why there are no bars.
	Missing string
	Bars    []bar
	// Y is the row's place in the picture, of the text's base line.
	Y int
}

// bar is a path in a row.
type bar struct {
	Label string
	Ours  bool
	// Value, Spread and Ratio are texts; Ratio is of ours to this one, and then of our
	// direct path.
	Value, Spread, Ratio string
	// Percent is the length, of the longest bar in the row; Low and High are where
	// the samples lie.
	Percent, Low, High float64
	// Y is the bar's place in the picture, of its upper edge.
	Y int
}

// Sizes in the picture, in its units.
const (
	chartWidth  = 760
	chartTop    = 64
	titleHeight = 30
	barHeight   = 20
	rowGap      = 14
	noteHeight  = 18
	labelWidth  = 170
	barsWidth   = 360
)

// newChart lays a report out.
func newChart(r *Report) *chart {
	c := &chart{Report: r, Notes: r.noteLines(), Width: chartWidth}
	y := chartTop
	for i := range r.Rows {
		row := &r.Rows[i]
		cr := chartRow{Title: row.Title, Unit: row.unit(), Missing: row.Missing, Y: y + titleHeight/2}
		y += titleHeight
		if row.Missing == "" {
			cr.Bars = row.bars(r.shown())
		}
		for j := range cr.Bars {
			cr.Bars[j].Y = y
			y += barHeight
		}
		c.Rows = append(c.Rows, cr)
		y += rowGap
	}
	c.Height = y + noteHeight*(len(c.Notes)+1)
	return c
}

// shown are the paths that were there.
func (r *Report) shown() (out []PathInfo) {
	for _, p := range r.Paths {
		if p.Missing == "" {
			out = append(out, p)
		}
	}
	return out
}

// bars are those of the paths that the row says something of.
func (row *Row) bars(paths []PathInfo) (out []bar) {
	longest := 0.0
	for _, c := range row.Cells {
		if c.Spread != nil {
			longest = max(longest, math.Abs(c.High))
		}
	}
	for _, p := range paths {
		c := row.Cells[p.Name]
		if c == nil {
			continue
		}
		b := bar{Label: p.Title, Ours: strings.HasPrefix(p.Name, OneVoice)}
		switch {
		case c.NotSupported:
			b.Value = "not supported"
		case c.Spread == nil:
			b.Value = cmp.Or(failedWord(c), "not measured")
		default:
			share := func(x float64) float64 { return 100 * max(0, x) / max(longest, math.SmallestNonzeroFloat64) }
			b.Value, b.Spread = digits(c.Median), c.percentText()
			b.Percent, b.Low, b.High = share(c.Median), share(c.Low), share(c.High)
			if len(c.Failed) > 0 {
				b.Spread += fmt.Sprintf(", %d failed", len(c.Failed))
			}
		}
		b.Ratio = row.ratioText(p.Name)
		out = append(out, b)
	}
	return out
}

// ratioText is what ours is to a peer, and then our direct path.
func (row *Row) ratioText(peer string) string {
	var texts []string
	if times, ok := row.ratio(OneVoice, peer); ok && peer != OneVoice {
		texts = append(texts, digits(times))
	}
	if times, ok := row.ratio(OneVoiceDirect, peer); ok && peer != OneVoiceDirect {
		texts = append(texts, "direct "+digits(times))
	}
	return strings.Join(texts, ", ")
}

func failedWord(c *Cell) string {
	if len(c.Failed) > 0 {
		return "failed"
	}
	return ""
}

// unit is the row's for people.
func (row *Row) unit() string {
	if row.LessIsBetter {
		return row.Unit + ", less is better"
	}
	return row.Unit
}

// BarX, BarWidth, LowX and HighX are the bar's places in the picture.
func (b bar) BarX() int { return labelWidth }

// BarWidth is at least a line, so that next to nothing is seen.
func (b bar) BarWidth() float64 { return max(1, b.Percent*barsWidth/100) }

// LowX is where the lowest sample lies.
func (b bar) LowX() float64 { return labelWidth + b.Low*barsWidth/100 }

// HighX is where the highest sample lies.
func (b bar) HighX() float64 { return labelWidth + b.High*barsWidth/100 }

// TextY is the base line of the bar's texts, and MiddleY its middle.
func (b bar) TextY() int { return b.Y + barHeight*2/3 }

// MiddleY is the bar's middle.
func (b bar) MiddleY() int { return b.Y + barHeight/2 - 2 }

// BarHeight leaves a gap between bars.
func (b bar) BarHeight() int { return barHeight - 5 }

// ValueX is where the value begins.
func (b bar) ValueX() int { return labelWidth + barsWidth + 10 }

// NoteY is the base line of a note, by its number from the end of the bars.
func (c *chart) NoteY(i int) int { return c.Height - noteHeight*(len(c.Notes)-i) }

// SVG writes the report as a picture of bars.
func (r *Report) SVG(out io.Writer) error { return r.draw(out, "chart.svg") }

// HTML writes the report as a page that needs nothing else.
func (r *Report) HTML(out io.Writer) error { return r.draw(out, "page.html") }

func (r *Report) draw(out io.Writer, name string) error {
	t, err := template.New(name).Funcs(template.FuncMap{"join": strings.Join, "digits": digits}).ParseFS(ownFiles, name)
	if err != nil {
		return err
	}
	return t.Execute(out, newChart(r))
}
