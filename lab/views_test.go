package lab

import "testing"

func TestViews(t *testing.T) {
	for _, c := range []struct {
		name          string
		views         []nodeView
		owned, shared bool
	}{
		{"equal shares", []nodeView{{Leased: true, Buckets: 128}, {Leased: true, Buckets: 128}}, true, true},
		{"one more", []nodeView{{Leased: true, Buckets: 86}, {Leased: true, Buckets: 85}, {Leased: true, Buckets: 85}}, true, true},
		{"two more", []nodeView{{Leased: true, Buckets: 129}, {Leased: true, Buckets: 127}}, true, false},
		{"one drained", []nodeView{{Leased: true, Buckets: 256}, {Leased: true}}, true, false},
		{"another table not equal yet", []nodeView{{Leased: true, Buckets: 128, Of: map[string]int{"a": 128, "b": 156}}, {Leased: true, Buckets: 128, Of: map[string]int{"a": 128, "b": 100}}}, true, false},
		{"another table equal", []nodeView{{Leased: true, Buckets: 128, Of: map[string]int{"b": 128}}, {Leased: true, Buckets: 128, Of: map[string]int{"b": 128}}}, true, true},
		{"a bucket of another table without an owner", []nodeView{{Leased: true, Buckets: 128, Of: map[string]int{"b": 128}}, {Leased: true, Buckets: 128, Of: map[string]int{"b": 127}}}, false, false},
		{"one without a lease", []nodeView{{Leased: true, Buckets: 128}, {Buckets: 128}}, false, false},
		{"a bucket without an owner", []nodeView{{Leased: true, Buckets: 128}, {Leased: true, Buckets: 127}}, false, false},
		{"nobody", nil, false, false},
	} {
		if o, s := owned(c.views), shared(c.views); o != c.owned || s != c.shared {
			t.Errorf("%s: owned %v, shared %v", c.name, o, s)
		}
	}
}
