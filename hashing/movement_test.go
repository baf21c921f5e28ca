package hashing

import (
	"fmt"
	"strings"
	"testing"
)

// How many buckets move when a node comes or leaves, and how even the shares
// are, for every size and for equal and unequal weights.
func TestMovementAndBalance(t *testing.T) {
	var out strings.Builder
	fmt.Fprint(&out, `least, most: buckets of a node; off: the farthest from exact, in 1/100 bucket
join, leave: buckets moved when one node more comes, when the last one leaves; ideal: its exact share
old: of those, how many moved between two nodes that stay
anew: buckets moved by the same join if First made the table again, instead of Next
`)
	measure(t, &out, "equal weights", func(int) uint32 { return 100 })
	measure(t, &out, "weights 100, 50, 300, 7, 100, 50 …", func(i int) uint32 { return []uint32{100, 50, 300, 7}[i%4] })
	golden(t, "movement.txt", out.String())
}

func measure(t *testing.T, out *strings.Builder, title string, weight func(i int) uint32) {
	fmt.Fprintf(out, "\n%s\nnodes  least  most   off  join  ideal  old  anew  leave  ideal  old\n", title)
	shares := make([]Share, MaxNodes)
	for i := range shares {
		shares[i] = Share{exampleID(i), weight(i)}
	}
	for n := 1; n <= MaxNodes; n++ {
		table, err := First(shares[:n])
		if err != nil {
			t.Fatal(err)
		}
		checkNext(t, Table{}, table, shares[:n])
		least, most, off := spread(t, table, shares[:n])
		fmt.Fprintf(out, "%5d  %5d  %4d  %4d  %s  %s\n", n, least, most, off,
			measureJoin(t, table, shares, n), measureLeave(t, table, shares[:n]))
		for i := range n {
			checkLeave(t, table, shares[:n], i)
		}
	}
}

// spread asserts that every node is within a bucket of exact and that equal
// weights differ by one at most.
func spread(t *testing.T, table Table, shares []Share) (least, most, off int) {
	sum, least := slowSum(shares), Buckets
	byWeight := map[uint32]int{}
	for _, s := range shares {
		c := table.Count(s.Node)
		least, most = min(least, c), max(most, c)
		d := hundredths(s, sum) - 100*c
		off = max(off, d, -d)
		if other, ok := byWeight[s.Weight]; ok && (other-c > 1 || c-other > 1) {
			t.Errorf("%d nodes: two of weight %d have %d and %d buckets", len(shares), s.Weight, other, c)
		}
		byWeight[s.Weight] = c
	}
	if off > 100 {
		t.Errorf("%d nodes: one is %d/100 buckets from exact", len(shares), off)
	}
	return least, most, off
}

// hundredths is the exact share, rounded to 1/100 of a bucket.
func hundredths(s Share, sum uint64) int {
	return int((100*Buckets*uint64(s.Weight) + sum/2) / sum)
}

func tenths(s Share, sum uint64) string {
	v := (10*Buckets*uint64(s.Weight) + sum/2) / sum
	return fmt.Sprintf("%d.%d", v/10, v%10)
}

// measureJoin adds the node behind the first n.
func measureJoin(t *testing.T, table Table, shares []Share, n int) string {
	if n == len(shares) {
		return fmt.Sprintf("%4s  %5s  %3s  %4s", "-", "-", "-", "-")
	}
	joined, joins := shares[:n+1], shares[n]
	next, _ := Next(table, joined)
	checkNext(t, table, next, joined)
	anew, _ := First(joined)
	moved, old := Moved(&table, &next), between(table, next, joins.Node)
	// The new node gets its share, and nothing else moves, but for what the
	// rounding of unequal weights lifts by one.
	if moved != next.Count(joins.Node)+old || old > risen(table, next, shares[:n]) {
		t.Errorf("%d nodes: a join moves %d buckets, %d of them between old nodes; the new one has %d", n, moved, old, next.Count(joins.Node))
	}
	if sameWeights(joined) && old > 0 {
		t.Errorf("%d equal nodes: a join moves %d buckets between old nodes", n, old)
	}
	return fmt.Sprintf("%4d  %5s  %3d  %4d", moved, tenths(joins, slowSum(joined)), old, Moved(&table, &anew))
}

func measureLeave(t *testing.T, table Table, shares []Share) string {
	last := len(shares) - 1
	moved, old := checkLeave(t, table, shares, last)
	return fmt.Sprintf("%5d  %5s  %3d", moved, tenths(shares[last], slowSum(shares)), old)
}

// checkLeave takes node i away, and asserts that what it had moves, and nothing
// else, but for what the rounding of unequal weights takes from one.
func checkLeave(t *testing.T, table Table, shares []Share, i int) (moved, old int) {
	rest := append(append([]Share{}, shares[:i]...), shares[i+1:]...)
	next, _ := Next(table, rest)
	checkNext(t, table, next, rest)
	moved, old = Moved(&table, &next), between(table, next, shares[i].Node)
	if moved != table.Count(shares[i].Node)+old || old > risen(next, table, rest) {
		t.Errorf("%d nodes: when node %d leaves, %d buckets move, %d of them between others; it had %d", len(shares), i, moved, old, table.Count(shares[i].Node))
	}
	if sameWeights(shares) && old > 0 {
		t.Errorf("%d equal nodes: when node %d leaves, %d buckets move between others", len(shares), i, old)
	}
	return moved, old
}

func sameWeights(shares []Share) bool {
	for _, s := range shares {
		if s.Weight != shares[0].Weight {
			return false
		}
	}
	return true
}

// between counts the buckets that moved between two nodes other than this one.
func between(a, b Table, id NodeID) int {
	n := 0
	for i := range a {
		if a[i] != b[i] && a[i] != id && b[i] != id {
			n++
		}
	}
	return n
}

// risen is the number of buckets by which nodes have more in b than in a; where
// every exact share falls, only rounding can lift one.
func risen(a, b Table, shares []Share) int {
	n := 0
	for _, s := range shares {
		n += max(0, b.Count(s.Node)-a.Count(s.Node))
	}
	return n
}
