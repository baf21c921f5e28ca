package hashing

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawShares(t *rapid.T) []Share {
	n := rapid.IntRange(0, MaxNodes).Draw(t, "nodes")
	shares := make([]Share, n)
	for i := range shares {
		shares[i] = Share{Node: NodeID(i*i + 1), Weight: rapid.SampledFrom([]uint32{0, 1, 50, 100, 100, 100, 300, MaxWeight}).Draw(t, "weight")}
	}
	return shares
}

func drawTable(t *rapid.T) Table {
	var cur Table
	owners := rapid.SliceOfN(rapid.Uint64Range(0, 40), 1, 12).Draw(t, "owners")
	for b := range cur {
		cur[b] = NodeID(owners[b*7%len(owners)])
	}
	return cur
}

// The rules of OWNERSHIP.md R4: quotas within one bucket of exact, the fewest
// buckets moved, and the table that the slow implementation makes.
func TestNextRestoresQuotasWithTheFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t)
		next, err := Next(cur, shares)
		if err != nil {
			t.Fatal(err)
		}
		sum := uint64(0)
		for _, s := range shares {
			sum += uint64(s.Weight)
		}
		if sum == 0 {
			if next != (Table{}) {
				t.Fatal("buckets are owned though nobody takes any")
			}
			return
		}
		total := 0
		for _, s := range shares {
			have, exact := next.Count(s.Node), Buckets*uint64(s.Weight)
			total += have
			if floor := int(exact / sum); have != floor && (exact%sum == 0 || have != floor+1) {
				t.Fatalf("node %d has %d buckets, its exact share is %d/%d", s.Node, have, exact, sum)
			}
		}
		if total != Buckets {
			t.Fatalf("%d buckets are owned by members", total)
		}
		if least := fewestMoves(&cur, shares, sum); Moved(&cur, &next) != least {
			t.Fatalf("%d buckets moved, %d would do", Moved(&cur, &next), least)
		}
		if slow := slowNext(cur, shares); slow != next {
			t.Fatalf("the slow implementation makes another table; %d buckets differ", Moved(&slow, &next))
		}
		if again, _ := Next(next, shares); again != next {
			t.Fatal("a table that is right was changed")
		}
	})
}

// fewestMoves is the least number of buckets that any table within the quotas
// differs by: each node keeps at most its floor, and as many nodes as there are
// odd buckets keep one more if they have it.
func fewestMoves(cur *Table, shares []Share, sum uint64) int {
	kept, odd, wanted := 0, Buckets, 0
	for _, s := range shares {
		exact := Buckets * uint64(s.Weight)
		floor := int(exact / sum)
		odd -= floor
		have := cur.Count(s.Node)
		kept += min(have, floor)
		if have > floor && exact%sum > 0 {
			wanted++
		}
	}
	return Buckets - kept - min(odd, wanted)
}

func TestFewestMovesIsABoundByExhaustion(t *testing.T) {
	// Three nodes of equal weight have 85 or 86; every choice of who has 86.
	shares := []Share{{1, 1}, {2, 1}, {3, 1}}
	rapid.Check(t, func(t *rapid.T) {
		cur := drawTable(t)
		best := Buckets
		for heavy := range shares {
			kept := 0
			for i, s := range shares {
				quota := 85
				if i == heavy {
					quota = 86
				}
				kept += min(cur.Count(s.Node), quota)
			}
			best = min(best, Buckets-kept)
		}
		if got := fewestMoves(&cur, shares, 3); got != best {
			t.Fatalf("%d, by exhaustion %d", got, best)
		}
	})
}

func TestNextDoesNotDependOnTheOrderOfNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t)
		a, _ := Next(cur, shares)
		b, _ := Next(cur, rapid.Permutation(shares).Draw(t, "order"))
		if a != b {
			t.Fatal("another order makes another table")
		}
	})
}

func TestTableGoldens(t *testing.T) {
	var out strings.Builder
	print := func(title string, table Table) {
		fmt.Fprintf(&out, "%s\n", title)
		for i := 0; i < Buckets; i += 64 {
			for _, owner := range table[i : i+64] {
				fmt.Fprintf(&out, "%d", owner)
			}
			fmt.Fprintln(&out)
		}
	}
	equal := []Share{{1, 100}, {2, 100}, {3, 100}, {4, 100}}
	four, _ := First(equal)
	print("four equal nodes", four)
	three, _ := Next(four, equal[:3])
	print("without node 4", three)
	back, _ := Next(three, equal)
	print("node 4 is back", back)
	weighted, _ := Next(back, []Share{{1, 300}, {2, 100}, {3, 100}, {4, 100}})
	print("node 1 weighs three times as much", weighted)
	golden(t, "tables.txt", out.String())
	// Beside the golden: what it must show.
	if Moved(&four, &three) != 64 || Moved(&three, &back) != 64 {
		t.Error("a node that leaves or comes moves more than its share")
	}
}

// How many buckets move when a node comes or leaves, for every size.
func TestMovementAndBalance(t *testing.T) {
	var out strings.Builder
	fmt.Fprintln(&out, "nodes  least  most  moved by a join  ideal  moved by a leave  ideal")
	for n := 1; n <= MaxNodes; n++ {
		shares := make([]Share, n+1)
		for i := range shares {
			shares[i] = Share{NodeID(i + 1), 100}
		}
		table, err := First(shares[:n])
		if err != nil {
			t.Fatal(err)
		}
		least, most := Buckets, 0
		for _, s := range shares[:n] {
			c := table.Count(s.Node)
			least, most = min(least, c), max(most, c)
		}
		join, joinIdeal, leave, leaveIdeal := "-", "-", "-", "-"
		if n < MaxNodes {
			next, _ := Next(table, shares)
			moved := Moved(&table, &next)
			join, joinIdeal = fmt.Sprint(moved), fmt.Sprintf("%.1f", float64(Buckets)/float64(n+1))
			if moved != next.Count(shares[n].Node) {
				t.Errorf("%d nodes: a join moves %d buckets, the new node has %d", n, moved, next.Count(shares[n].Node))
			}
		}
		if n > 1 {
			next, _ := Next(table, shares[:n-1])
			moved := Moved(&table, &next)
			leave, leaveIdeal = fmt.Sprint(moved), fmt.Sprintf("%.1f", float64(Buckets)/float64(n))
			if moved != table.Count(shares[n-1].Node) {
				t.Errorf("%d nodes: a leave moves %d buckets, the node had %d", n, moved, table.Count(shares[n-1].Node))
			}
		}
		if most-least > 1 {
			t.Errorf("%d equal nodes have from %d to %d buckets", n, least, most)
		}
		fmt.Fprintf(&out, "%5d  %5d  %4d  %15s  %5s  %16s  %5s\n", n, least, most, join, joinIdeal, leave, leaveIdeal)
	}
	golden(t, "movement.txt", out.String())
}

func TestNextRefusesWhatCannotBe(t *testing.T) {
	many := make([]Share, MaxNodes+1)
	for i := range many {
		many[i] = Share{NodeID(i + 1), 1}
	}
	for name, shares := range map[string][]Share{
		"too many nodes": many,
		"node 0":         {{0, 1}},
		"a node twice":   {{1, 1}, {1, 1}},
		"too heavy":      {{1, MaxWeight + 1}},
	} {
		if _, err := First(shares); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := First(many[:MaxNodes]); err != nil {
		t.Error(err)
	}
}

func BenchmarkNext32(b *testing.B) {
	shares := make([]Share, MaxNodes)
	for i := range shares {
		shares[i] = Share{NodeID(i + 1), 100}
	}
	table, _ := First(shares)
	for b.Loop() {
		if _, err := Next(table, shares[1:]); err != nil {
			b.Fatal(err)
		}
	}
}
