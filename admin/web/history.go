package web

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"onevoice/admin"
	"onevoice/cluster"
)

// Bounds of what is remembered.
const (
	// SampleInterval is how often the daemon is looked at, MaxSamples how many looks
	// are kept: an hour.
	SampleInterval = 5 * time.Second
	MaxSamples     = 720
	// MaxEvents is how many changes are kept, the newest.
	MaxEvents = 256
)

// Sample is one look at the daemon. Rates are per second since the one before.
type Sample struct {
	At      int64          `json:"at"` // seconds since 1970
	Flows   int            `json:"flows"`
	New     float64        `json:"new_flows"`
	Up      float64        `json:"bytes_up"`
	Down    float64        `json:"bytes_down"`
	Frames  float64        `json:"frames"`
	Leased  bool           `json:"leased"`
	Buckets map[string]int `json:"buckets"` // by node, of the first VIP's table
}

// Level says how much an event matters.
type Level string

// Levels.
const (
	Good Level = "good"
	Info Level = "info"
	Bad  Level = "bad"
)

// Event is one change, in words.
type Event struct {
	At    int64  `json:"at"` // seconds since 1970
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

// look is a Sample as it is kept: all of one size, and pointing to nothing, so that the
// heap of a daemon does not grow for its first hour, whatever moves meanwhile.
type look struct {
	Sample // without Buckets
	// shares are the nodes' buckets, the first of them, known many, in use.
	shares [maxShares]share
	known  int
}

// share is what a node has; node is its place among the names.
type share struct{ node, buckets uint16 }

const maxShares = cluster.MaxHosts + cluster.MaxForeign

// History is the last hour. Its methods may be called from any goroutine.
type History struct {
	mu sync.Mutex
	// looks has room for all that are kept from the first one on.
	looks []look
	// names are those of nodes that any look has shares of, and of others whose places
	// the next new ones take.
	names  []string
	events []Event
	last   *admin.Status
	lastAt time.Time
}

// Recent is the answer to GET /v1/history.
type Recent struct {
	Interval float64  `json:"interval_seconds"`
	Samples  []Sample `json:"samples"` // oldest first
	Events   []Event  `json:"events"`  // newest first
}

// Recent is what is remembered.
func (h *History) Recent() Recent {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := Recent{
		Interval: SampleInterval.Seconds(),
		Samples:  make([]Sample, len(h.looks)),
		Events:   make([]Event, 0, len(h.events)),
	}
	for i := range h.looks {
		l := &h.looks[i]
		r.Samples[i] = l.Sample
		if i > 0 && slices.Equal(l.kept(), h.looks[i-1].kept()) {
			// An hour of looks at what seldom changes.
			r.Samples[i].Buckets = r.Samples[i-1].Buckets
			continue
		}
		r.Samples[i].Buckets = make(map[string]int, l.known)
		for _, s := range l.kept() {
			r.Samples[i].Buckets[h.names[s.node]] = int(s.buckets)
		}
	}
	for i := len(h.events) - 1; i >= 0; i-- {
		r.Events = append(r.Events, h.events[i])
	}
	return r
}

// restore takes in what a History before this one had. What cannot be read, as that of
// another version may be, is left out.
func (h *History) restore(text []byte, at time.Time) {
	var r Recent
	if len(text) == 0 || json.Unmarshal(text, &r) != nil {
		return
	}
	h.mu.Lock()
	for i := range r.Samples {
		h.keep(&r.Samples[i])
	}
	slices.Reverse(r.Events)
	h.events = newest(r.Events, MaxEvents)
	h.mu.Unlock()
	h.Note(at, Info, "another process of this daemon has taken over, after an upgrade or a reload")
}

// Observe takes in a look at the daemon. s stays as it is.
func (h *History) Observe(at time.Time, s *admin.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep(h.sample(at, s))
	for _, e := range changes(h.last, s) {
		e.At = at.Unix()
		h.events = append(h.events, e)
	}
	h.events = newest(h.events, MaxEvents)
	h.last, h.lastAt = s, at
}

// Note remembers something that was not seen by looking.
func (h *History) Note(at time.Time, level Level, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = newest(append(h.events, Event{at.Unix(), level, text}), MaxEvents)
}

// newest keeps the last n.
func newest[T any](all []T, n int) []T {
	if len(all) > n {
		// In place, so that what is kept does not grow.
		copy(all, all[len(all)-n:])
		all = all[:n]
	}
	return all
}

// keep keeps a sample as the newest, in place of the oldest where there are enough.
func (h *History) keep(s *Sample) {
	if h.looks == nil {
		h.looks = make([]look, 0, MaxSamples)
	}
	if len(h.looks) == MaxSamples {
		copy(h.looks, h.looks[1:])
		h.looks = h.looks[:MaxSamples-1]
	}
	h.looks = append(h.looks, look{Sample: *s})
	l := &h.looks[len(h.looks)-1]
	l.Buckets = nil
	for _, name := range slices.Sorted(maps.Keys(s.Buckets)) {
		if l.known == maxShares {
			// A table has no more; another process's answer may.
			return
		}
		l.shares[l.known] = share{h.place(name), uint16(s.Buckets[name])}
		l.known++
	}
}

// place is a name's among the names.
func (h *History) place(name string) uint16 {
	i := slices.Index(h.names, name)
	if i < 0 {
		i = h.unused()
	}
	if i < 0 {
		i, h.names = len(h.names), append(h.names, "")
	}
	h.names[i] = name
	return uint16(i)
}

// unused is the first place that no look has a share of, -1 for none.
func (h *History) unused() int {
	used := make([]bool, len(h.names))
	for i := range h.looks {
		for _, s := range h.looks[i].kept() {
			used[s.node] = true
		}
	}
	return slices.Index(used, false)
}

// kept are the shares in use.
func (l *look) kept() []share { return l.shares[:l.known] }

func (h *History) sample(at time.Time, s *admin.Status) *Sample {
	out := &Sample{At: at.Unix(), Flows: s.Flows.Running, Leased: s.Leased, Buckets: map[string]int{}}
	for i := range s.Nodes {
		if n := &s.Nodes[i]; !n.Witness {
			out.Buckets[n.Name] = n.Buckets
		}
	}
	if h.last == nil {
		return out
	}
	seconds := at.Sub(h.lastAt).Seconds()
	out.New = perSecond(h.last.Flows.Accepted, s.Flows.Accepted, seconds)
	out.Up = perSecond(h.last.Flows.BytesUp, s.Flows.BytesUp, seconds)
	out.Down = perSecond(h.last.Flows.BytesDown, s.Flows.BytesDown, seconds)
	out.Frames = perSecond(h.last.Device.ReceivedFrames, s.Device.ReceivedFrames, seconds)
	return out
}

// perSecond is how fast a counter grew. One that is lower than before belongs to other
// workers, and has grown from 0.
func perSecond(before, now uint64, seconds float64) float64 {
	if now < before {
		before = 0
	}
	if seconds <= 0 {
		return 0
	}
	return float64(now-before) / seconds
}
