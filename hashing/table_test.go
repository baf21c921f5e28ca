package hashing

import (
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawShares(t *rapid.T, most int) []Share {
	n := rapid.IntRange(0, most).Draw(t, "nodes")
	same := rapid.Bool().Draw(t, "same weights")
	shares := make([]Share, n)
	for i := range shares {
		shares[i] = Share{Node: exampleID(i), Weight: 100}
		if !same {
			shares[i].Weight = rapid.SampledFrom([]uint32{0, 1, 50, 100, 100, 101, 300, MaxWeight}).Draw(t, "weight")
		}
	}
	return shares
}

// exampleID is a node's number: its IPv4 address as a big-endian number.
func exampleID(i int) NodeID { return 0x0a4d000b + NodeID(i) }

// drawTable makes a table as it may be found: for other weights, with or without
// nodes that have gone, or anything at all.
func drawTable(t *rapid.T) Table {
	var cur Table
	if rapid.Bool().Draw(t, "made by First") {
		cur, _ = First(drawShares(t, MaxNodes))
	}
	for range rapid.SampledFrom([]int{0, 1, 10, 400}).Draw(t, "disturbed") {
		b := rapid.Uint8().Draw(t, "bucket")
		cur[b] = rapid.SampledFrom([]NodeID{0, 1, exampleID(0), exampleID(1), exampleID(2), exampleID(31)}).Draw(t, "owner")
	}
	return cur
}

// checkNext asserts the rules of Next, none of them by way of its own code.
func checkNext(t rapid.TB, cur, next Table, shares []Share) {
	t.Helper()
	sum, count := slowSum(shares), slowCount(next)
	if sum == 0 {
		if next != (Table{}) {
			t.Fatal("buckets are owned though nobody takes any")
		}
		return
	}
	total := 0
	for _, s := range shares {
		have, exact := count[s.Node], Buckets*uint64(s.Weight)
		total += have
		if floor := int(exact / sum); have != floor && (exact%sum == 0 || have != floor+1) {
			t.Fatalf("node %d has %d buckets, its exact share is %d/%d", s.Node, have, exact, sum)
		}
	}
	if total != Buckets {
		t.Fatalf("%d buckets are owned by nodes with a share", total)
	}
	if least := fewestMoves(cur, shares); Moved(&cur, &next) != least {
		t.Fatalf("%d buckets moved, %d would do", Moved(&cur, &next), least)
	}
	checkRendezvous(t, cur, next)
}

// checkRendezvous asserts that no two buckets would rather be exchanged: that a
// bucket that could have gone to a node instead of another one has a lower score
// there, or has gone to a node where it has a higher one.
func checkRendezvous(t rapid.TB, cur, next Table) {
	t.Helper()
	score := remembered()
	for b, taker := range next {
		if cur[b] == taker {
			continue
		}
		for other, owner := range next {
			mine, theirs := score(b, taker), score(other, taker)
			stayed := cur[other] == owner
			switch {
			case owner == taker || theirs < mine:
			case stayed && owner == cur[b]:
				t.Fatalf("node %d gave bucket %d to node %d, and keeps %d, which scores higher there", owner, b, taker, other)
			case !stayed && theirs > score(other, owner):
				t.Fatalf("bucket %d went to node %d though it scores higher at %d, which took %d", other, owner, taker, b)
			}
		}
	}
}

// The rules of OWNERSHIP.md R4, and the table that the slow implementation makes.
func TestNextRestoresQuotasWithTheFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t, MaxNodes)
		next, err := Next(cur, shares)
		if err != nil {
			t.Fatal(err)
		}
		checkNext(t, cur, next, shares)
		if slow := slowNext(cur, shares); slow != next {
			t.Fatalf("the slow implementation makes another table; %d buckets differ", Moved(&slow, &next))
		}
		if again, _ := Next(next, shares); again != next {
			t.Fatal("a table that is right was changed")
		}
	})
}

// With few nodes every way to hand out the odd buckets can be tried.
func TestNextIsTheBestByExhaustion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t, 10)
		if slowSum(shares) == 0 {
			return
		}
		next, err := Next(cur, shares)
		if err != nil {
			t.Fatal(err)
		}
		quota, moves := exhaustiveQuotas(cur, shares)
		if got := fewestMoves(cur, shares); got != moves {
			t.Fatalf("the formula says %d moves, exhaustion %d", got, moves)
		}
		if got := Moved(&cur, &next); got != moves {
			t.Fatalf("%d buckets moved, %d would do", got, moves)
		}
		for _, s := range shares {
			if got := next.Count(s.Node); got != quota[s.Node] {
				t.Fatalf("node %d has %d buckets, want %d", s.Node, got, quota[s.Node])
			}
		}
	})
}

// Who gets the odd buckets, case by case.
func TestOddBuckets(t *testing.T) {
	filled := func(counts ...int) (t Table) {
		b := 0
		for i, n := range counts {
			for range n {
				t[b] = NodeID(i + 1)
				b++
			}
		}
		return t
	}
	for _, c := range []struct {
		name    string
		cur     Table
		weights []uint32
		want    []int
	}{
		{"the lower id when all else is equal", Table{}, []uint32{1, 1, 1}, []int{86, 85, 85}},
		{"two of them", Table{}, []uint32{1, 1, 1, 1, 1, 1, 1}, []int{37, 37, 37, 37, 36, 36, 36}},
		{"the larger remainder before the lower id", Table{}, []uint32{5, 6}, []int{116, 140}},
		{"who has it before the larger remainder", filled(117, 139), []uint32{5, 6}, []int{117, 139}},
		{"who has it before the lower id", filled(85, 85, 86), []uint32{1, 1, 1}, []int{85, 85, 86}},
		{"the lower id of two who have it", filled(80, 88, 88), []uint32{1, 1, 1}, []int{85, 86, 85}},
		{"the larger remainder of two who have it", filled(30, 76, 150), []uint32{1, 2, 4}, []int{36, 73, 147}},
		{"none, when shares are whole", filled(100, 156), []uint32{1, 3}, []int{64, 192}},
		{"none to weight 0", filled(0, 1, 255), []uint32{1, 0, 2}, []int{85, 0, 171}},
		{"a weight too light for one bucket may get it", Table{}, []uint32{MaxWeight, 1}, []int{256, 0}},
		{"or keep it", filled(255, 1), []uint32{MaxWeight, 1}, []int{255, 1}},
	} {
		shares := make([]Share, len(c.weights))
		for i, w := range c.weights {
			shares[i] = Share{NodeID(i + 1), w}
		}
		next, err := Next(c.cur, shares)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, want := range c.want {
			if got := next.Count(NodeID(i + 1)); got != want {
				t.Errorf("%s: node %d has %d buckets, want %d", c.name, i+1, got, want)
			}
		}
		checkNext(t, c.cur, next, shares)
	}
}

func TestNextDoesNotDependOnTheOrderOfNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t, MaxNodes)
		a, _ := Next(cur, shares)
		b, _ := Next(cur, rapid.Permutation(shares).Draw(t, "order"))
		if a != b {
			t.Fatal("another order makes another table")
		}
	})
}

func TestNextRefusesWhatCannotBe(t *testing.T) {
	many := make([]Share, MaxNodes+1)
	for i := range many {
		many[i] = Share{NodeID(i + 1), MaxWeight}
	}
	owned, _ := First(many[:3])
	for _, c := range []struct {
		name, says string
		shares     []Share
	}{
		{"too many nodes", "33 nodes, at most 32", many},
		{"node 0", "node 0 is nobody", []Share{{0, 1}}},
		{"node 0 without weight", "node 0 is nobody", []Share{{0, 0}}},
		{"a node twice", "node 7 has two shares", []Share{{7, 1}, {8, 1}, {7, 1}}},
		{"a node twice, once without weight", "node 7 has two shares", []Share{{7, 1}, {7, 0}}},
		{"too heavy", "is above 1048576", []Share{{1, MaxWeight + 1}}},
		{"heaviest there is", "is above 1048576", []Share{{1, 1<<32 - 1}}},
	} {
		for _, cur := range []Table{{}, owned} {
			next, err := Next(cur, c.shares)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", c.name, err, c.says)
			}
			if next != (Table{}) {
				t.Errorf("%s: a table beside the error", c.name)
			}
		}
	}
	// The bounds themselves are within.
	full, err := First(many[:MaxNodes])
	if err != nil {
		t.Fatal(err)
	}
	checkNext(t, Table{}, full, many[:MaxNodes])
}

func TestNobody(t *testing.T) {
	owned, _ := First([]Share{{1, 1}, {2, 1}})
	for _, shares := range [][]Share{nil, {}, {{1, 0}}, {{1, 0}, {2, 0}}} {
		if next, err := Next(owned, shares); err != nil || next != (Table{}) {
			t.Errorf("%v: %d buckets are owned, %v", shares, Buckets-next.Count(0), err)
		}
	}
}

func TestTableGoldens(t *testing.T) {
	var out strings.Builder
	cur := Table{}
	step := func(title string, wantMoved int, weights ...uint32) {
		shares := make([]Share, len(weights))
		for i, w := range weights {
			shares[i] = Share{exampleID(i), w}
		}
		next, err := Next(cur, shares)
		if err != nil {
			t.Fatal(err)
		}
		// Beside the golden: what it must show.
		checkNext(t, cur, next, shares)
		if got := Moved(&cur, &next); got != wantMoved {
			t.Errorf("%s: %d buckets moved, want %d", title, got, wantMoved)
		}
		fmt.Fprintf(&out, "%s (%d moved)\n%s", title, wantMoved, drawing(next))
		cur = next
	}
	fmt.Fprintln(&out, "nodes a, b, c … are 10.77.0.11, .12, .13 …; - is nobody; bucket 0 is at the top left")
	step("four equal nodes, first table", 256, 100, 100, 100, 100)
	step("d leaves", 64, 100, 100, 100)
	step("d is back", 64, 100, 100, 100, 100)
	step("a weighs three times as much", 64, 300, 100, 100, 100)
	step("b weighs nothing", 43, 300, 0, 100, 100)
	step("e joins", 42, 300, 0, 100, 100, 100)
	step("nobody weighs anything", 256, 0, 0, 0, 0, 0)
	step("seven unequal nodes, first table", 256, 1, 2, 3, 5, 7, 11, 13)
	golden(t, "tables.txt", out.String())
}

// drawing writes a letter for each bucket, 64 a line.
func drawing(t Table) string {
	var out strings.Builder
	for b, owner := range t {
		letter := byte('-')
		if owner != 0 {
			letter = 'a' + byte(owner-exampleID(0))
		}
		out.WriteByte(letter)
		if b%64 == 63 {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// A floating-point number may come out otherwise on another machine (a fused
// multiply-add on arm64), and then two nodes would each make a table of its own.
func TestSourcesHaveIntegersOnly(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		var s scanner.Scanner
		s.Init(fset.AddFile(name, -1, len(src)), src, nil, 0)
		for pos, tok, text := s.Scan(); tok != token.EOF; pos, tok, text = s.Scan() {
			if tok == token.FLOAT || tok == token.IMAG || strings.HasPrefix(text, "float") || strings.HasPrefix(text, "complex") {
				t.Errorf("%v: %s", fset.Position(pos), text)
			}
		}
	}
}

func BenchmarkNext32(b *testing.B) {
	shares := make([]Share, MaxNodes)
	for i := range shares {
		shares[i] = Share{exampleID(i), 100}
	}
	table, _ := First(shares)
	b.Run("First", func(b *testing.B) {
		for b.Loop() {
			if _, err := First(shares); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("leave", func(b *testing.B) {
		for b.Loop() {
			if _, err := Next(table, shares[1:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
