package control

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
	"onevoice/node"
)

func TestListsGoThroughMessages(t *testing.T) {
	big := make([]uint64, node.MaxListed)
	for i := range big {
		big[i] = uint64(i) << 50
	}
	lists := []sentList{
		{service: "ssh", bucket: 255, complete: true, hashes: []uint64{1, 1 << 63}},
		{service: "", bucket: 0},
		{service: "ssh", bucket: 1, complete: true, hashes: big},
		{service: "web", bucket: 2, complete: true, hashes: big[:2000]},
		{service: "web", bucket: 3, complete: true},
	}
	var got []sentList
	messages := encodeLists(listKeyID{7}, 5, 6, lists)
	for _, b := range messages {
		m, err := decodeLists(b)
		if err != nil || m.key != (listKeyID{7}) || m.epoch != 5 || m.index != 6 {
			t.Fatalf("%+v, %v", m, err)
		}
		if len(m.lists) > 1 && len(b) > maxListMessage {
			t.Errorf("a message of %d lists and %d bytes", len(m.lists), len(b))
		}
		got = append(got, m.lists...)
		// No part of a message is one, but at the end of a list.
		whole := map[int]bool{}
		for n := range m.lists {
			whole[len(encodeLists(m.key, 5, 6, m.lists[:n+1])[0])] = true
		}
		for n := range b {
			if _, err := decodeLists(b[:n]); err == nil && n != listHeaderBytes && !whole[n] {
				t.Errorf("%d bytes of %d are a message", n, len(b))
			}
		}
	}
	if !reflect.DeepEqual(got, lists) || len(messages) != 3 {
		t.Errorf("%d messages, %d lists", len(messages), len(got))
	}
	if len(encodeLists(listKeyID{}, 1, 1, nil)) != 0 {
		t.Error("a message of nothing")
	}
	head := make([]byte, listHeaderBytes)
	for name, bad := range map[string][]byte{
		"complete is 2":  append(slices.Clone(head), 0, 9, 2, 0, 0),
		"a hash missing": append(slices.Clone(head), 0, 9, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0),
		"too many":       append(append(slices.Clone(head), 0, 9, 1, 0x10, 1), make([]byte, 8*(node.MaxListed+1))...),
	} {
		if _, err := decodeLists(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzDecodeLists: what is read says the same when it is written again.
func FuzzDecodeLists(f *testing.F) {
	f.Add(encodeLists(listKeyID{1}, 2, 3, []sentList{{"ssh", 4, true, []uint64{5}}, {"", 6, false, nil}})[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeLists(b)
		if err != nil || len(m.lists) == 0 {
			return
		}
		if again := bytes.Join(encodeLists(m.key, m.epoch, m.index, m.lists), nil); len(again) < len(b) || len(b) <= maxListMessage && !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// The drainers of bucket 9 of ssh are 20 (epoch 2) and 30 (epoch 3) since entry
// 100, that of bucket 10 is 20.
func bookRows() []cluster.DrainedRow {
	return []cluster.DrainedRow{
		{Service: 1, Bucket: 9, Since: 100, By: []cluster.Drainer{{ID: 20, Epoch: 2}, {ID: 30, Epoch: 3}}},
		{Service: 1, Bucket: 10, Since: 90, By: []cluster.Drainer{{ID: 20, Epoch: 2}}},
	}
}

// hears has a book hear of one list.
func hears(k *listBook, at time.Duration, from, epoch, index uint64, l sentList) {
	for _, m := range encodeLists(k.key, epoch, index, []sentList{l}) {
		k.take(at, from, m)
	}
}

func ssh(bucket uint8, hashes ...uint64) sentList {
	return sentList{service: "ssh", bucket: bucket, complete: true, hashes: hashes}
}

// A list excludes flows only when every drainer's is there, current and complete.
func TestListsAreMerged(t *testing.T) {
	const now = time.Hour
	all := func(k *listBook) {
		hears(k, now, 20, 2, 100, ssh(9, 5, 4))
		hears(k, now, 30, 3, 150, ssh(9, 6))
	}
	for name, c := range map[string]struct {
		hear func(k *listBook)
		want []uint64 // nil for not complete
	}{
		"none":                      {func(*listBook) {}, nil},
		"of one drainer":            {func(k *listBook) { hears(k, now, 20, 2, 100, ssh(9, 5, 4)) }, nil},
		"of all":                    {all, []uint64{4, 5, 6}},
		"of another bucket":         {func(k *listBook) { all(k); hears(k, now, 20, 2, 100, ssh(10, 8)) }, []uint64{4, 5, 6}},
		"one again":                 {func(k *listBook) { all(k); hears(k, now, 20, 2, 100, ssh(9, 7)) }, []uint64{6, 7}},
		"one again, of nothing":     {func(k *listBook) { all(k); hears(k, now, 20, 2, 100, ssh(9)) }, []uint64{6}},
		"one not complete any more": {func(k *listBook) { all(k); hears(k, now, 20, 2, 100, sentList{service: "ssh", bucket: 9}) }, nil},
		"one of an older table":     {func(k *listBook) { hears(k, now, 20, 2, 99, ssh(9, 5)); hears(k, now, 30, 3, 150, ssh(9, 6)) }, nil},
		"an older one late":         {func(k *listBook) { all(k); hears(k, now, 20, 2, 99, ssh(9, 1)) }, []uint64{4, 5, 6}},
		"of an older epoch late":    {func(k *listBook) { all(k); hears(k, now, 20, 1, 200, ssh(9, 1)) }, []uint64{4, 5, 6}},
		"of a later epoch":          {func(k *listBook) { all(k); hears(k, now, 20, 3, 200, ssh(9, 1)) }, nil},
		"of a host that drains not": {func(k *listBook) { hears(k, now, 20, 2, 100, ssh(9, 5)); hears(k, now, 40, 3, 100, ssh(9, 6)) }, nil},
		"a second old":              {func(k *listBook) { hears(k, now-listTime, 20, 2, 100, ssh(9, 5)); hears(k, now, 30, 3, 150, ssh(9, 6)) }, []uint64{5, 6}},
		"older than a second": {func(k *listBook) {
			hears(k, now-listTime-1, 20, 2, 100, ssh(9, 5))
			hears(k, now, 30, 3, 150, ssh(9, 6))
		}, nil},
		"under another key": {func(k *listBook) {
			hears(k, now, 20, 2, 100, ssh(9, 5))
			k.take(now, 30, encodeLists(listKeyID{9}, 3, 150, []sentList{ssh(9, 6)})[0])
		}, nil},
		"garbage": {func(k *listBook) { all(k); k.take(now, 20, []byte("garbage")) }, []uint64{4, 5, 6}},
		"a new drainer since": {func(k *listBook) {
			all(k)
			rows := bookRows()
			rows[0].Since = 151
			k.know(rows)
		}, nil},
		"a drainer gone": {func(k *listBook) {
			all(k)
			rows := bookRows()
			rows[0].By = rows[0].By[1:]
			k.know(rows)
		}, []uint64{6}},
		"a drainer gone and come back": {func(k *listBook) {
			all(k)
			rows := bookRows()
			rows[0].By = rows[0].By[1:]
			k.know(rows)
			k.know(bookRows())
		}, nil},
	} {
		k := newListBook(listKeyID{7}, []string{"vip", "ssh"})
		k.know(bookRows())
		c.hear(k)
		l := k.merge(now)
		if len(l) != 2 || l[0].Service != 1 || l[0].Bucket != 9 || l[1].Bucket != 10 {
			t.Fatalf("%s: %+v", name, l)
		}
		slices.Sort(l[0].Hashes)
		if l[0].Complete != (c.want != nil) || !slices.Equal(l[0].Hashes, c.want) {
			t.Errorf("%s: %+v, want %v", name, l[0], c.want)
		}
		n := 0
		for _, kept := range k.lists {
			n += len(kept.hashes)
		}
		if n != k.hashes {
			t.Errorf("%s: %d hashes counted as %d", name, n, k.hashes)
		}
	}
}

// A book that is full takes lists that exclude nothing, and counts what it met.
func TestBookIsBounded(t *testing.T) {
	k := newListBook(listKeyID{7}, []string{"ssh"})
	const drainers = maxBookHashes/node.MaxListed + 1
	row := cluster.DrainedRow{Service: 0, Bucket: 9}
	for id := range uint64(drainers) {
		row.By = append(row.By, cluster.Drainer{ID: id})
	}
	k.know([]cluster.DrainedRow{row})
	full := make([]uint64, node.MaxListed)
	for id := range uint64(drainers) {
		hears(k, 0, id, 0, 0, ssh(9, full...))
	}
	if k.hashes != maxBookHashes || k.counts.Full != 1 || k.merge(0)[0].Complete {
		t.Errorf("%d hashes, %+v", k.hashes, k.counts)
	}
	hears(k, 0, 0, 0, 0, ssh(9))
	hears(k, 0, drainers-1, 0, 0, ssh(9, full...))
	if k.hashes != maxBookHashes || k.counts.Full != 1 || !k.merge(0)[0].Complete {
		t.Errorf("with room again: %d hashes, %+v", k.hashes, k.counts)
	}
	hears(k, 0, drainers, 0, 0, ssh(9, 1))
	hears(k, 0, 0, 0, 0, ssh(8, 1))
	hears(k, 0, 0, 0, 0, sentList{service: "other", bucket: 9})
	k.take(0, 0, nil)
	k.take(0, 0, encodeLists(listKeyID{8}, 0, 0, []sentList{ssh(9)})[0])
	if want := (ListCounts{Heard: drainers + 5, Bad: 1, OtherKey: 1, Unasked: 3, Full: 1}); k.counts != want {
		t.Errorf("counts %+v, want %+v", k.counts, want)
	}
}

// When nobody drains any more, the book has none of the room that it needed: what a day
// of faults has needed at most must not be a daemon's for good.
func TestBookLetsItsRoomGo(t *testing.T) {
	k := newListBook(listKeyID{7}, []string{"ssh"})
	var rows []cluster.DrainedRow
	for b := range hashing.Buckets {
		row := cluster.DrainedRow{Bucket: uint8(b)}
		for id := range uint64(8) {
			row.By = append(row.By, cluster.Drainer{ID: id})
		}
		rows = append(rows, row)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	k.know(rows)
	for b := range hashing.Buckets {
		for id := range uint64(8) {
			hears(k, 0, id, 0, 0, ssh(uint8(b), 1, 2, 3))
		}
	}
	if more := heap() - before; len(k.lists) != 8*hashing.Buckets || more < 128<<10 {
		t.Fatalf("%d lists take %d bytes: too few to tell anything", len(k.lists), more)
	}
	k.know(nil)
	if more := heap() - before; more > 16<<10 {
		t.Errorf("%d bytes are left of lists that were let go", more)
	}
	runtime.KeepAlive(k)
	runtime.KeepAlive(rows)
}
