package hashing

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// NextOf deals with a few buckets as Next does with all: who keeps a bucket keeps it,
// all others have an owner, nobody who keeps none has more than a share, and what it
// made it leaves alone.
func TestNextOfAFewBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cur, shares := drawTable(t), drawShares(t, 8)
		n := rapid.IntRange(1, Buckets).Draw(t, "buckets")
		kept := rapid.SliceOfN(rapid.Bool(), 0, n).Draw(t, "kept")
		next, err := NextOf(cur, shares, n, kept)
		if err != nil {
			t.Fatal(err)
		}
		sum, total := slowSum(shares), n
		for b := range kept {
			if kept[b] && !slices.ContainsFunc(shares, func(s Share) bool { return s.Node == cur[b] }) {
				total--
			}
		}
		most := map[NodeID]int{}
		for _, s := range shares {
			if sum > 0 {
				most[s.Node] = int((uint64(total)*uint64(s.Weight) + sum - 1) / sum)
			}
		}
		for b, owner := range next {
			_, shared := most[owner]
			switch {
			case b >= n:
				if owner != 0 {
					t.Fatalf("bucket %d of %d has an owner", b, n)
				}
			case b < len(kept) && kept[b]:
				if owner != cur[b] {
					t.Fatalf("bucket %d did not stay", b)
				}
				delete(most, owner)
			case sum > 0 && !shared && !slices.ContainsFunc(shares, func(s Share) bool { return s.Node == owner }):
				t.Fatalf("bucket %d is %d's", b, owner)
			}
		}
		for id, least := range most {
			if next.Count(id) > least {
				t.Fatalf("node %d has %d buckets, at most %d are its share", id, next.Count(id), least)
			}
		}
		if again, err := NextOf(next, shares, n, kept); err != nil || again != next {
			t.Fatalf("it goes on moving: %v", err)
		}
	})
}
