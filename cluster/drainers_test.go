package cluster

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// rowsCore is host 10 of three, with slots 0 to 2 and epochs 100 to 300, and a
// service whose rows are all owned by nobody but those given.
func rowsCore(rows map[uint8]Row) *Core {
	c := &Core{o: Options{Services: []ServiceSpec{{Name: "unknown"}, {Name: "ssh"}}}, id: 10, holder: &holder{low: 100}}
	c.table = &Table{Index: 77, Services: []Service{{Name: "ssh"}}, Hosts: []Host{
		{ID: 10, Slot: 0, Epoch: 100, In: true}, {ID: 20, Slot: 1, Epoch: 200, In: true}, {ID: 30, Slot: 2, Epoch: 300, In: true},
	}}
	for b, r := range rows {
		c.table.Services[0].Rows[b] = r
	}
	c.rights.last.Generation = 5
	return c
}

func TestDrained(t *testing.T) {
	c := rowsCore(map[uint8]Row{
		1: {Owner: 1, Since: 40, Drainers: bit(1) | bit(2)},
		2: {Owner: 1, Since: 41, Drainers: bit(2)},
		9: {Owner: 1, Since: 47, Drainers: bit(2) | bit(17)}, // one is not in the table
		3: {Owner: 1},                                        // nobody drains it
		4: {Owner: 2, Since: 42, Drainers: bit(0)},           // another's
		5: {Owner: 1, Since: 43, Drainers: bit(0)},           // our own flows are known here
		6: {Since: 44, Drainers: bit(1)},                     // nobody's
		7: {Owner: 2, Since: 45, Drainers: bit(2)},           // does not concern us
		8: {Owner: 1, Since: 46, Grace: bit(1) | bit(2)},     // nobody may speak for them at all
	})
	rows, generation := c.Drained()
	want := []DrainedRow{
		{Service: 1, Bucket: 1, Since: 40, By: []Drainer{{20, 200}, {30, 300}}},
		{Service: 1, Bucket: 2, Since: 41, By: []Drainer{{30, 300}}},
		{Service: 1, Bucket: 9, Since: 47, By: []Drainer{{30, 300}, {}}},
	}
	if generation != 5 || !reflect.DeepEqual(rows, want) {
		t.Errorf("generation %d, rows %+v", generation, rows)
	}
	// What other workers of this host hold, the active one knows no more of than of
	// what other hosts do.
	c.outside.others = true
	rows, _ = c.Drained()
	want = slices.Insert(want, 2, DrainedRow{Service: 1, Bucket: 3}, DrainedRow{Service: 1, Bucket: 5, Since: 43}, DrainedRow{Service: 1, Bucket: 8, Since: 46})
	if !c.OtherWorkers() || !reflect.DeepEqual(rows, want) {
		t.Errorf("beside other workers rows %+v", rows)
	}
	if d := c.Draining(); !reflect.DeepEqual(d, Draining{Generation: 5, Index: 77, Epoch: 100, Rows: []DrainingRow{{1, 4, 20}}}) {
		t.Errorf("draining %+v", d)
	}
	c.table.Hosts[0].In = false
	if d := c.Draining(); len(d.Rows) != 0 {
		t.Errorf("draining %+v while out", d)
	}
	for _, c := range []*Core{{}, {table: &Table{}, id: 10, o: c.o}} {
		if rows, _ := c.Drained(); len(rows) != 0 || len(c.Draining().Rows) != 0 {
			t.Error("rows without a table that has us")
		}
	}
}

// Another drainer makes other rights, even of a bucket that had one before: what
// workers were told of its flows is of the rights before.
func TestAnotherDrainerMakesOtherRights(t *testing.T) {
	c := rowsCore(map[uint8]Row{1: {Owner: 1, Since: 40, Drainers: bit(1)}})
	spec := &c.o.Services[1]
	before := []ServiceRights{c.serviceRights(spec)}
	row := &c.table.Services[0].Rows[1]
	row.Drainers, row.Since = bit(1)|bit(2), 50
	if after := []ServiceRights{c.serviceRights(spec)}; equalRights(before, after) {
		t.Error("the rights are the same")
	}
	row.Drainers, row.Since, row.Owner = bit(0), 60, 2
	before = []ServiceRights{c.serviceRights(spec)}
	row.Since = 70
	if after := []ServiceRights{c.serviceRights(spec)}; !equalRights(before, after) {
		t.Error("drainers of another's bucket change our rights")
	}
}

// What is said to be drained are rows that this host drains, of which the workers have
// looked since and hold no flow; of a service that is not in the file a worker of an
// earlier file may hold any.
func TestDrainedOf(t *testing.T) {
	rows := map[uint8]Row{
		1: {Owner: 2, Since: 50, Drainers: bit(0)},
		2: {Owner: 2, Since: 50, Drainers: bit(0)},          // held
		3: {Owner: 2, Since: 51, Drainers: bit(0)},          // nobody has looked since
		4: {Owner: 2, Since: 10, Drainers: bit(1) | bit(2)}, // others drain it
		5: {Owner: 1, Since: 10, Drainers: bit(0) | bit(2)}, // it has come back
		6: {Owner: 2, Since: 10},
	}
	set := func(all ...uint8) (out buckets) {
		for _, b := range all {
			out.set(b)
		}
		return out
	}
	for name, tt := range map[string]struct {
		file   string
		others bool
		want   buckets
	}{
		"in the file": {"ssh", false, set(1, 5)},
		"in the file, beside a worker of an earlier one":     {"ssh", true, set(1, 5)},
		"in an earlier file":                                 {"http", false, set(1, 2, 5)},
		"in an earlier file, a worker of which may hold any": {"http", true, set()},
	} {
		c := rowsCore(rows)
		c.o.Services[1].Name = tt.file
		c.rights.looked, c.outside.others = 50, tt.others
		// What is held of another service says nothing about this one.
		c.outside.holding = []buckets{set(1), set(2)}
		if got := c.drainedOf(&c.table.Services[0], 0); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A service that a file has no more is said to be drained, and the others may speak for
// its rows, when no worker of an earlier file is left, and not before.
func TestDrainedOfAnEarlierFile(t *testing.T) {
	a := newAlone(t)
	a.o.Services = a.o.Services[:1]
	ssh := a.table.service("ssh")
	row := &ssh.Rows[7]
	row.Drainers, row.Since = bit(0), 1
	for _, others := range []bool{true, false} {
		for range 100 {
			generation := a.rights.last.Generation
			a.step(Report{Written: generation, Looked: generation, Others: others})
			a.pass(5 * time.Millisecond)
		}
		if row = &a.table.service("ssh").Rows[7]; row.Drainers.has(0) != others {
			t.Errorf("with a worker of an earlier file %v: drained %v", others, !row.Drainers.has(0))
		}
	}
}
