package report

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

// HTML writes the report as a page that needs nothing from elsewhere: the
// verdict, each node's share over time with the faults, and all that the text has.
func (r *Report) HTML(out io.Writer) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return fmt.Errorf("report: %w", err) // a mistake of ours
	}
	return t.Execute(out, newView(r))
}

// view is what the page shows, worked out.
type view struct {
	*Report
	Verdict string
	Areas   []area
	Marks   []mark
	Ticks   []string
	Rows    []row
	People  []string
	// Busiest are the first of the clients, More how many there are besides.
	Busiest []Client
	More    int
}

// area is a node's share over time, as a path in a box of 1000 by 256, y down.
type area struct {
	Name, Path string
	Colour     int
	Node       Node
	Percent    int
}

// mark is a fault's place in the chart, in percent of its width.
type mark struct {
	Left   string
	Number int
	Text   string
}

// row is an event of the timeline; Number is its mark's, 0 without one.
type row struct {
	At     string
	Kind   Kind
	Text   string
	Number int
}

const (
	chartWidth, chartHeight = 1000, 256
	// colours is how many the page has for nodes; then they come again.
	colours = 8
	ticks   = 5
)

func newView(r *Report) *view {
	v := &view{Report: r, Verdict: r.Verdict(), Busiest: r.Clients[:min(len(r.Clients), MostClients)]}
	v.More = len(r.Clients) - len(v.Busiest)
	most := 1
	for _, n := range r.Nodes {
		most = max(most, n.Buckets)
	}
	for i, n := range r.Nodes {
		v.Areas = append(v.Areas, area{n.Name, r.path(i), i % colours, n, n.Buckets * 100 / most})
	}
	end := time.Duration(r.Duration)
	for i := range ticks {
		v.Ticks = append(v.Ticks, fmt.Sprintf("%.4g s", (end*time.Duration(i)/(ticks-1)).Seconds()))
	}
	for _, e := range r.Timeline {
		at := time.Duration(e.At)
		w := row{fmt.Sprintf("%.3f", at.Seconds()), e.Kind, e.Text, 0}
		if e.Kind == Fault && end > 0 {
			w.Number = len(v.Marks) + 1
			v.Marks = append(v.Marks, mark{fmt.Sprintf("%.2f", 100*at.Seconds()/end.Seconds()), w.Number, e.Text})
		}
		v.Rows = append(v.Rows, w)
	}
	t := &text{}
	t.people(r)
	_, people, _ := strings.Cut(strings.TrimSpace(t.String()), "\n")
	for _, p := range strings.SplitAfter(strings.Join(strings.Fields(people), " "), ". ") {
		v.People = append(v.People, strings.TrimSpace(p))
	}
	return v
}

// path goes along the upper edge of a node's share and back along the lower one:
// shares stand on each other, the first node's at the bottom, and change in steps.
func (r *Report) path(node int) string {
	var upper, lower []string
	end := time.Duration(r.Duration)
	for i, s := range r.Samples {
		from, to := time.Duration(s.At), end
		if i+1 < len(r.Samples) {
			to = time.Duration(r.Samples[i+1].At)
		}
		below := 0
		for _, n := range s.Buckets[:node] {
			below += n
		}
		x0, x1 := chartX(from, end), chartX(to, end)
		top, bottom := chartHeight-below-s.Buckets[node], chartHeight-below
		upper = append(upper, fmt.Sprintf("%.1f,%d %.1f,%d", x0, top, x1, top))
		lower = append(lower, fmt.Sprintf("%.1f,%d %.1f,%d", x1, bottom, x0, bottom))
	}
	var b strings.Builder
	b.WriteString("M" + strings.Join(upper, " "))
	for i := range lower {
		b.WriteString(" " + lower[len(lower)-1-i])
	}
	return b.String() + "Z"
}

func chartX(at, end time.Duration) float64 {
	if end <= 0 {
		return 0
	}
	return chartWidth * min(1, at.Seconds()/end.Seconds())
}

// page is the template. Colours of nodes differ in lightness too, and names stand
// beside them, so that nobody has to tell hues apart.
const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{if .Name}}{{.Name}}: {{end}}{{.Verdict}}</title>
<style>
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --ink: #1b1b19; --dim: #5f5e59; --line: #dcdad4; --card: #ffffff;
  --good: #0a6b2c; --bad: #b3261e; --warn: #8a5a00;
  --n0: #2a78d6; --n1: #1baf7a; --n2: #eda100; --n3: #4a3aa7; --n4: #e34948; --n5: #008300; --n6: #e87ba4; --n7: #7a5230;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #171715; --ink: #ecebe6; --dim: #a5a39b; --line: #3a3935; --card: #20201d;
    --good: #6fd391; --bad: #ff8a80; --warn: #f0c060;
    --n0: #3987e5; --n1: #199e70; --n2: #c98500; --n3: #9085e9; --n4: #e66767; --n5: #3c9a3c; --n6: #d55181; --n7: #b08050;
  }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; background: var(--page); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.35rem; margin: 0 0 .3rem } h2 { font-size: 1.05rem; margin: 1.8rem 0 .5rem }
p { margin: .3rem 0 } a { color: inherit } .dim { color: var(--dim); font-size: .9rem }
.verdict { border-left: .4rem solid var(--good); background: var(--card); padding: .7rem 1rem; margin: 1rem 0; border-radius: .2rem }
.verdict.bad { border-color: var(--bad) } .verdict strong { color: var(--good) } .verdict.bad strong { color: var(--bad) }
.verdict ul { margin: .4rem 0 0; padding-left: 1.1rem } .mend { color: var(--dim) }
.chart { position: relative; height: 16rem; margin-top: 1.6rem; border-left: 1px solid var(--line); border-bottom: 1px solid var(--line); background: var(--card) }
.chart svg { position: absolute; inset: 0; width: 100%; height: 100% }
.chart path { stroke: var(--card); stroke-width: 1; vector-effect: non-scaling-stroke }
.mark { position: absolute; top: 0; bottom: 0; width: 0; border-left: 2px dashed var(--ink) }
.mark b { position: absolute; top: -1.5rem; left: -.7rem; width: 1.4rem; text-align: center; font-size: .75rem; line-height: 1.4rem;
  background: var(--ink); color: var(--page); border-radius: 50% }
.ticks { display: flex; justify-content: space-between; color: var(--dim); font-size: .8rem; margin-top: .2rem }
.c0 { --c: var(--n0) } .c1 { --c: var(--n1) } .c2 { --c: var(--n2) } .c3 { --c: var(--n3) }
.c4 { --c: var(--n4) } .c5 { --c: var(--n5) } .c6 { --c: var(--n6) } .c7 { --c: var(--n7) }
path { fill: var(--c) } .chip { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; background: var(--c); margin-right: .4rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; color: var(--dim); font-size: .85rem } th:first-child, td:first-child, td.text, th.text { text-align: left } td:first-child { white-space: nowrap }
.timeline td:first-child { text-align: right; white-space: nowrap; color: var(--dim) }
.kind { font-size: .8rem; color: var(--dim); white-space: nowrap } tr.fault td.text { font-weight: 600 }
.bar { height: .7rem; background: var(--c); border-radius: .15rem; min-width: 1px }
code { font-size: .9rem; overflow-wrap: anywhere }
@media (max-width: 34rem) { .timeline td.kind { display: none } .timeline td { padding: .25rem .3rem } }
</style>
</head>
<body>
<h1>{{if .Name}}{{.Name}}: {{end}}{{.Title}}</h1>
{{if .About}}<p>{{.About}}</p>{{end}}
{{range .Links}}<p class="dim"><a href="{{.}}">{{.}}</a></p>{{end}}
<div class="verdict{{if not .AsExpected}} bad{{end}}">
<strong>{{.Verdict}}</strong>
{{if .Findings}}<ul>{{range .Findings}}<li>{{.Text}}{{if .Mend}}<br><span class="mend">Mend: {{.Mend}}</span>{{end}}</li>{{end}}</ul>{{end}}
{{range .Quiet}}<p>This fault struck nothing: <code>{{.}}</code></p>{{end}}
</div>
{{range .Limits}}<p class="dim">Note: {{.}}</p>{{end}}

<h2>Who answered, over time</h2>
<div class="chart" role="img" aria-label="The share of each node in the 256 buckets over time; the table of nodes has the last values.">
<svg viewBox="0 0 1000 256" preserveAspectRatio="none" aria-hidden="true">{{range .Areas}}<path class="c{{.Colour}}" d="{{.Path}}"><title>{{.Name}}</title></path>{{end}}</svg>
{{range .Marks}}<span class="mark" style="left:{{.Left}}%" title="{{.Text}}"><b>{{.Number}}</b></span>{{end}}
</div>
<div class="ticks">{{range .Ticks}}<span>{{.}}</span>{{end}}</div>
<div class="scroll"><table>
<tr><th>node</th><th>buckets</th><th class="text" style="width:40%"></th><th>served</th><th>clients</th></tr>
{{range .Areas}}<tr class="c{{.Colour}}"><td><span class="chip"></span>{{.Name}}</td><td>{{.Node.Buckets}}</td><td class="text">{{if .Node.Alive}}<div class="bar" style="width:{{.Percent}}%"></div>{{else}}down{{end}}</td><td>{{.Node.Served}}</td><td>{{.Node.Clients}}</td></tr>
{{end}}</table></div>

{{if .Busiest}}<h2>Who would have answered</h2>
<div class="scroll"><table>
<tr><th>client</th><th>frames</th><th>connections</th><th class="text">by</th></tr>
{{range .Busiest}}<tr><td>{{.Address}}</td><td>{{.Frames}}</td><td>{{.Connections}}</td><td class="text">{{range .Nodes}}{{.}} {{else}}nobody{{end}}</td></tr>
{{end}}</table></div>
{{if .More}}<p class="dim">and {{.More}} more</p>{{end}}{{end}}

<h2>What users noticed</h2>
{{range .People}}<p>{{.}}</p>{{end}}

<h2>Answers per request</h2>
<div class="scroll"><table>
<tr><th></th><th>asked</th><th>exactly one</th><th>none</th><th>two or more</th></tr>
{{range .Answers}}<tr><td>{{.What}}</td><td>{{.Asked}}</td><td>{{.One}}</td><td>{{.None}}</td><td>{{.More}}</td></tr>
{{end}}</table></div>

<h2>Timeline</h2>
<table class="timeline">
{{range .Rows}}<tr class="{{.Kind}}"><td>{{.At}} s</td><td class="text kind">{{.Kind}}</td><td class="text">{{if .Number}}({{.Number}}) {{end}}{{.Text}}</td></tr>
{{end}}</table>
{{if .Untold}}<p class="dim">and {{.Untold}} more that are not told</p>{{end}}

<h2>This run</h2>
<p class="dim">{{range $i, $s := .Settings}}{{if $i}}, {{end}}{{.Key}} {{.Value}}{{end}}</p>
<p><code>{{.Command}}</code></p>
</body>
</html>
`
