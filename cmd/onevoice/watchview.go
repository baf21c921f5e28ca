package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"onevoice/admin"
)

// view is what `onevoice watch` shows: the last look, and the one before it, from
// which rates are.
type view struct {
	now, before     *admin.Status
	nowAt, beforeAt time.Time
	trouble         string
}

func (v *view) see(at time.Time, s *admin.Status) {
	v.before, v.beforeAt, v.now, v.nowAt = v.now, v.nowAt, s, at
}

// nodeColours are the terminal's own, so that they fit its ground; then they come
// again, and the letters go on.
func nodeColours() []string {
	return []string{"34", "33", "32", "35", "36", "31", "94", "93", "92", "95", "96", "91"}
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// painter writes in colours, or not.
type painter bool

func (p painter) text(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p painter) node(i int, text string) string {
	colours := nodeColours()
	return p.text(colours[i%len(colours)], text)
}

// draw is one picture, in lines of at most width columns where names are not long.
func (v *view) draw(width int, colour bool) string {
	var b strings.Builder
	p, s := painter(colour), v.now
	fmt.Fprintf(&b, "%s of cluster %s, %s, up %s\n", p.text("1", s.Node), p.text("1", s.Cluster), leaseText(s), duration(s.Uptime))
	if v.trouble != "" {
		fmt.Fprintln(&b, p.text("1;31", wrapped("! ", v.trouble)))
	}
	for _, w := range s.Warnings {
		fmt.Fprintln(&b, p.text("31", wrapped("! ", w)))
	}
	for _, n := range s.News {
		fmt.Fprintln(&b, wrapped("  ", n))
	}
	b.WriteByte('\n')
	v.nodes(&b, p)
	v.tables(&b, p, width)
	v.rates(&b)
	return b.String()
}

// nodes lists the nodes with the letters that the buckets are drawn with.
func (v *view) nodes(b *strings.Builder, p painter) {
	var plain strings.Builder
	w := tabwriter.NewWriter(&plain, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, " \tNODE\tADDRESS\tSTATE\tHEARD\tEPOCH\tBUCKETS\tFLOWS\tDRAINS\t")
	for i := range v.now.Nodes {
		n := &v.now.Nodes[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", letter(i, n), n.Name, n.Address, n.State, heardText(n), epochText(n), n.Buckets, flowsText(n), admin.Most(n.DrainsOf), nodeNotes(n))
	}
	// A strings.Builder takes everything.
	_ = w.Flush()
	for i, line := range strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		if i > 0 && !v.now.Nodes[i-1].Witness {
			line = p.node(i-1, line[:1]) + line[1:]
		}
		fmt.Fprintln(b, line)
	}
	b.WriteByte('\n')
}

func letter(i int, n *admin.NodeStatus) string {
	if n.Witness {
		return "-"
	}
	return letters[i%len(letters) : i%len(letters)+1]
}

// tables draws who owns each bucket of each service; those with the same owners
// share a picture.
func (v *view) tables(b *strings.Builder, p painter, width int) {
	names := map[string][]string{}
	for name, owners := range v.now.Table {
		if name != "vip" {
			key := strings.Join(owners, " ")
			names[key] = append(names[key], name)
		}
	}
	var keys []string
	for key := range names {
		slices.Sort(names[key])
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y string) int { return strings.Compare(names[x][0], names[y][0]) })
	for _, key := range keys {
		fmt.Fprintln(b, wrapped("", "BUCKETS OF "+strings.Join(names[key], ", ")))
		v.strip(b, p, v.now.Table[names[key][0]], width)
		b.WriteByte('\n')
	}
}

// strip draws the buckets in rows of the largest power of two that fits.
func (v *view) strip(b *strings.Builder, p painter, owners []string, width int) {
	const numbers = 5
	row := 16
	for row*2 <= min(width-numbers, len(owners)) {
		row *= 2
	}
	for from := 0; from < len(owners); from += row {
		fmt.Fprintf(b, "%3d  ", from)
		for _, owner := range owners[from:min(from+row, len(owners))] {
			i := slices.IndexFunc(v.now.Nodes, func(n admin.NodeStatus) bool { return n.Address == owner })
			if i < 0 {
				b.WriteString(p.text("1;31", "."))
				continue
			}
			b.WriteString(p.node(i, letter(i, &v.now.Nodes[i])))
		}
		b.WriteByte('\n')
	}
}

// rates tells what passes through this host.
func (v *view) rates(b *strings.Builder) {
	s := v.now
	fmt.Fprintf(b, "FLOWS  %d running of %d", s.Flows.Running, s.Flows.Limit)
	if v.before == nil {
		fmt.Fprintln(b)
		return
	}
	seconds := max(v.nowAt.Sub(v.beforeAt).Seconds(), 0.001)
	each := func(now, before uint64) float64 {
		if now < before {
			before = 0
		}
		return float64(now-before) / seconds
	}
	was := v.before
	fmt.Fprintf(b, ", %.0f new/s, %s/s up, %s/s down\n", each(s.Flows.Accepted, was.Flows.Accepted),
		bytesText(uint64(each(s.Flows.BytesUp, was.Flows.BytesUp))), bytesText(uint64(each(s.Flows.BytesDown, was.Flows.BytesDown))))
	fmt.Fprintf(b, "FRAMES %.0f/s to this program, %.0f/s dropped in the kernel for other nodes\n",
		each(s.Device.ReceivedFrames, was.Device.ReceivedFrames), each(s.Filtered.Foreign, was.Filtered.Foreign))
}
