package web

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/admin"
)

func epoch() time.Time { return time.Unix(1_800_000_000, 0) }

// looks are statuses, each made from the one before by a change.
func looks(changes ...func(*admin.Status)) []*admin.Status {
	s := admin.Status{
		Node: "n1", Cluster: "campus", Leased: true, Uptime: 100,
		Services: []admin.ServiceStatus{{}},
		Nodes: []admin.NodeStatus{
			{Name: "n1", ID: "a", Address: "10.0.0.1", In: true, Leader: true, Weight: 100, Buckets: 128, Self: true},
			{Name: "n2", ID: "b", Address: "10.0.0.2", In: true, Weight: 100, Buckets: 128},
		},
	}
	s.Services[0].Name, s.Services[0].Backend, s.Services[0].Up = "ssh", "127.0.0.1:22", true
	first := s
	out := []*admin.Status{&first}
	for _, change := range changes {
		next := *out[len(out)-1]
		next.Nodes, next.Services = slices.Clone(next.Nodes), slices.Clone(next.Services)
		change(&next)
		out = append(out, &next)
	}
	return out
}

func eventsOf(statuses []*admin.Status) (out []string) {
	h := &History{}
	for i, s := range statuses {
		h.Observe(epoch().Add(time.Duration(i)*SampleInterval), s)
	}
	for _, e := range slices.Backward(h.Recent().Events) {
		out = append(out, fmt.Sprintf("%s: %s", e.Level, e.Text))
	}
	return out[1:]
}

// The server of a process that takes over goes on with what the one before has seen, and
// leaves out what it cannot read.
func TestHistoryIsHandedOver(t *testing.T) {
	var h History
	all := looks(func(s *admin.Status) { s.Flows.Running, s.Nodes[1].Draining = 7, true })
	for i, s := range all {
		h.Observe(epoch().Add(time.Duration(i)*SampleInterval), s)
	}
	_, before := handler(&daemon{now: epoch()}, "")
	before.history.restore([]byte("no history"), epoch())
	if r := before.history.Recent(); len(r.Samples)+len(r.Events) != 0 {
		t.Errorf("of what cannot be read it has taken %+v", r)
	}
	before.history.looks, before.history.names, before.history.events = h.looks, h.names, h.events
	var after History
	at := epoch().Add(time.Minute)
	after.restore(before.Remembered(), at)
	was, now := h.Recent(), after.Recent()
	if !reflect.DeepEqual(now.Samples, was.Samples) || len(was.Samples) != 2 {
		t.Errorf("samples %+v, were %+v", now.Samples, was.Samples)
	}
	if !reflect.DeepEqual(now.Events[1:], was.Events) || now.Events[0].At != at.Unix() || !strings.Contains(now.Events[0].Text, "taken over") {
		t.Errorf("events %+v, were %+v", now.Events, was.Events)
	}
}

// Each change is told once, in words, and what stays is not told.
func TestEventsTellChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*admin.Status)
		want   string
	}{
		{"nothing", func(*admin.Status) {}, ""},
		{"a lease runs out", func(s *admin.Status) { s.Leased = false }, "bad: n1 may not answer: its lease has run out"},
		{"a restart", func(s *admin.Status) { s.Uptime = 1 }, "info: the daemon of n1 was started again"},
		{"a node is out", func(s *admin.Status) { s.Nodes[1].In, s.Nodes[1].Buckets = false, 0 }, "bad: n2 is out; the others have its buckets|info: n2 has 0 buckets, and had 128"},
		{"and dead", func(s *admin.Status) { s.Nodes[1].In, s.Nodes[1].Orphaned = false, true }, "bad: n2 is taken for dead; the others have its buckets and reset its flows"},
		{"a drain", func(s *admin.Status) { s.Nodes[1].Draining = true }, "info: n2 drains"},
		{"a weight", func(s *admin.Status) { s.Nodes[1].Weight = 50 }, "info: the weight of n2 is 50, and was 100"},
		{"another leads", func(s *admin.Status) { s.Nodes[0].Leader, s.Nodes[1].Leader = false, true }, "info: n2 leads"},
		{"a member comes", func(s *admin.Status) {
			s.Nodes = append(s.Nodes, admin.NodeStatus{Name: "n3", ID: "c", Address: "10.0.0.3"})
		}, "info: n3 (10.0.0.3) is a member"},
		{"a member goes", func(s *admin.Status) { s.Nodes = s.Nodes[:1] }, "info: n2 (10.0.0.2) is no member any more"},
		{"its service", func(s *admin.Status) { s.Nodes[1].Down = []string{"ssh"} }, "bad: n2 says that its service ssh is down"},
		{"our service", func(s *admin.Status) { s.Services[0].Up = false }, "bad: service ssh is down here: 127.0.0.1:22 does not accept"},
		{"a warning", func(s *admin.Status) { s.Warnings = []string{"n2 was heard 3 s ago"} }, "bad: n2 was heard 3 s ago"},
	} {
		if got := strings.Join(eventsOf(looks(tt.change)), "|"); got != tt.want {
			t.Errorf("%s: told %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A warning whose numbers change is the same; one that goes is told as over, without what
// was to be done about it.
func TestEventsTellAWarningOnce(t *testing.T) {
	warn := func(w ...string) func(*admin.Status) { return func(s *admin.Status) { s.Warnings = w } }
	got := eventsOf(looks(warn("n2 was heard 3 s ago"), warn("n2 was heard 8 s ago", "the disk is full; make room"), warn("the disk is full; make room"), warn()))
	want := []string{"bad: n2 was heard 3 s ago", "bad: the disk is full; make room", "good: over: n2 was heard 8 s ago", "good: over: the disk is full"}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// Rates are by the time between two looks, and a counter that began anew does not
// make one that is absurd.
func TestSamplesAreRates(t *testing.T) {
	h := &History{}
	see := func(at int, accepted, up uint64) {
		s := looks()[0]
		s.Flows.Accepted, s.Flows.BytesUp, s.Flows.Running = accepted, up, 7
		h.Observe(epoch().Add(time.Duration(at)*time.Second), s)
	}
	see(0, 1000, 5000)
	see(10, 1050, 5000)
	see(20, 30, 600)
	see(20, 40, 600)
	var got []string
	for _, s := range h.Recent().Samples {
		got = append(got, fmt.Sprintf("%d %v %v %v", s.Flows, s.New, s.Up, s.Buckets))
	}
	want := []string{"7 0 0 map[n1:128 n2:128]", "7 5 0 map[n1:128 n2:128]", "7 3 60 map[n1:128 n2:128]", "7 0 0 map[n1:128 n2:128]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// An hour is kept, and the newest events.
func TestHistoryIsBounded(t *testing.T) {
	h := &History{}
	for i := range 3 * MaxSamples {
		s := looks()[0]
		s.Leased = i%2 == 0
		h.Observe(epoch().Add(time.Duration(i)*SampleInterval), s)
	}
	r := h.Recent()
	last := epoch().Add((3*MaxSamples - 1) * SampleInterval).Unix()
	if len(r.Samples) != MaxSamples || r.Samples[MaxSamples-1].At != last || r.Samples[0].At != last-3595 {
		t.Errorf("%d samples, from %d to %d", len(r.Samples), r.Samples[0].At, r.Samples[len(r.Samples)-1].At)
	}
	if len(r.Events) != MaxEvents || r.Events[0].At != last {
		t.Errorf("%d events, the newest of %d", len(r.Events), r.Events[0].At)
	}
}

// What has not changed is answered once, and what has is another's.
func TestEqualBucketsAreAnsweredOnce(t *testing.T) {
	h := &History{}
	s := looks()[0]
	for i := range 3 {
		if i == 2 {
			moved := *s
			moved.Nodes = slices.Clone(s.Nodes)
			moved.Nodes[0].Buckets, moved.Nodes[1].Buckets = 100, 156
			s = &moved
		}
		h.Observe(epoch().Add(time.Duration(i)*SampleInterval), s)
	}
	r := h.Recent().Samples
	at := func(i int) uintptr { return reflect.ValueOf(r[i].Buckets).Pointer() }
	if at(0) != at(1) || at(1) == at(2) {
		t.Error("equal ones are not answered once, or others are")
	}
	if r[1].Buckets["n1"] != 128 || r[2].Buckets["n1"] != 100 {
		t.Errorf("the samples say %+v", r)
	}
}

// moving are statuses of an hour and more in that buckets move between any two looks, and
// nodes come and go.
func moving(i int) *admin.Status {
	s := looks()[0]
	s.Nodes[0].Buckets, s.Nodes[1].Buckets = i%256, 255-i%256
	s.Nodes = append(s.Nodes, admin.NodeStatus{Name: fmt.Sprint("guest", i/60), In: true, Buckets: 1})
	return s
}

// What nodes had is told of the hour, by the names that they had then.
func TestSamplesTellWhoHadWhat(t *testing.T) {
	h := &History{}
	const all = 2*MaxSamples + 7
	for i := range all {
		h.Observe(epoch().Add(time.Duration(i)*SampleInterval), moving(i))
	}
	for k, s := range h.Recent().Samples {
		i := all - MaxSamples + k
		if want := map[string]int{"n1": i % 256, "n2": 255 - i%256, fmt.Sprint("guest", i/60): 1}; !reflect.DeepEqual(s.Buckets, want) {
			t.Fatalf("sample %d tells %v, want %v", k, s.Buckets, want)
		}
	}
}

// A daemon's heap does not grow with the hour that its page fills.
func TestHistoryFillsWithoutGrowing(t *testing.T) {
	h := &History{}
	at := 0
	heapAfter := func(looks int) int64 {
		for ; at < looks; at++ {
			h.Observe(epoch().Add(time.Duration(at)*SampleInterval), moving(at))
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// The events are full by then.
	before := heapAfter(MaxEvents)
	if grown := heapAfter(MaxSamples) - before; grown > 16<<10 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	runtime.KeepAlive(h)
}
