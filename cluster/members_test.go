package cluster

import (
	"slices"
	"testing"
)

// Who should vote follows from who is there, however the cluster was founded.
func TestWantVoters(t *testing.T) {
	witness := Host{ID: 9, Order: 9, Witness: true}
	foreign := Host{ID: 8, Order: 1, Foreign: true}
	silent := func(id uint64) Host { return Host{ID: id, Order: uint32(id), Votes: "no"} }
	node := func(id uint64) Host { return Host{ID: id, Order: uint32(id)} }
	for _, c := range []struct {
		hosts []Host
		want  []uint64
	}{
		{[]Host{node(1)}, []uint64{1}},
		{[]Host{node(1), node(2)}, []uint64{1}},
		{[]Host{node(2), node(1), witness}, []uint64{1, 2, 9}},
		{[]Host{node(1), witness}, []uint64{1}},
		{[]Host{node(1), node(2), node(3)}, []uint64{1, 2, 3}},
		{[]Host{node(1), node(2), node(3), node(4)}, []uint64{1, 2, 3}},
		{[]Host{node(1), node(2), node(3), node(4), witness}, []uint64{1, 2, 3, 4, 9}},
		{[]Host{silent(1), node(2), node(3), node(4)}, []uint64{2, 3, 4}},
		{[]Host{foreign, node(2), node(3)}, []uint64{2}},
		{[]Host{silent(1)}, nil},
	} {
		for _, preferred := range []bool{false, true} {
			table := Table{Hosts: c.hosts, Preferred: preferred}
			if got := table.wantVoters(); !slices.Equal(got, c.want) {
				t.Errorf("of %+v, preferred %v, %v should vote, want %v", c.hosts, preferred, got, c.want)
			}
		}
	}
}
