package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What counts as agreed is what a majority of the voters has applied, other than
// the host that asks: one that lies or is ahead stops nobody.
func TestAgreed(t *testing.T) {
	for _, test := range []struct {
		voters  []uint64
		applied map[uint64]uint64
		want    uint64
	}{
		{[]uint64{1, 2, 3}, map[uint64]uint64{2: 7, 3: 9}, 7},
		{[]uint64{1, 2, 3}, map[uint64]uint64{2: 7, 3: 1 << 60}, 7},
		{[]uint64{1, 2, 3}, map[uint64]uint64{2: 7}, 0},
		{[]uint64{2, 3, 4}, map[uint64]uint64{2: 5, 3: 6, 4: 1 << 60}, 6}, // 1 does not vote
		{[]uint64{1, 2, 3, 4, 5}, map[uint64]uint64{2: 3, 3: 5, 4: 8, 5: 9}, 5},
		{[]uint64{2}, map[uint64]uint64{2: 4, 3: 1 << 60}, 4},
		{[]uint64{1}, map[uint64]uint64{2: 1 << 60}, 0},
	} {
		s := newSupporter(1, 0, nil)
		for id, applied := range test.applied {
			s.of(id).applied = applied
		}
		if got := s.agreed(&Table{Sets: []VoterSet{{Voters: test.voters}}}); got != test.want {
			t.Errorf("voters %v, applied %v: %d is agreed, want %d", test.voters, test.applied, got, test.want)
		}
	}
}

// A host is behind once it has lacked one entry for long enough, and not while it
// only follows a log that moves.
func TestSeeBehind(t *testing.T) {
	timing, _ := TimingOf(LAN)
	c := &Core{voter: newSupporter(1, 0, nil), table: &Table{Timing: timing, Sets: []VoterSet{{Voters: []uint64{2}}}}}
	for c.now = 0; c.now < 10*time.Second; c.now += 10 * time.Millisecond {
		c.voter.of(2).applied += 3
		c.table.Index = max(c.voter.of(2).applied, 100) - 100 // follows, 330 ms later
		if c.seeBehind(); c.behind.on {
			t.Fatalf("behind after %v, and it follows", c.now)
		}
	}
	stop := c.now
	for ; !c.behind.on && c.now < stop+5*time.Second; c.now += 10 * time.Millisecond {
		c.voter.of(2).applied += 3
		c.seeBehind()
	}
	if after := c.now - stop; after < behindAfter-400*time.Millisecond || after > behindAfter+400*time.Millisecond {
		t.Errorf("behind %v after it stood still, want about %v", after, behindAfter)
	}
	if told := c.telling(c.now); len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("up to entry %d, and the others up to", c.table.Index)) {
		t.Errorf("behind, a status tells %q", told)
	}
	for c.table.Index < c.voter.of(2).applied-1 {
		c.table.Index++
		if c.seeBehind(); !c.behind.on {
			t.Fatal("no longer behind before it has caught up")
		}
	}
	c.table.Index++
	if c.seeBehind(); c.behind.on || len(c.telling(c.now)) != 0 {
		t.Errorf("behind %v, and it has caught up; a status tells %q", c.behind.on, c.telling(c.now))
	}
	// The next time it is told with the numbers of then.
	for c.voter.of(2).applied++; !c.behind.on && c.now < stop+time.Minute; c.now += 10 * time.Millisecond {
		c.seeBehind()
	}
	if told := c.telling(c.now); len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("up to entry %d,", c.table.Index)) {
		t.Errorf("behind again at entry %d, a status tells %q", c.table.Index, told)
	}
}
