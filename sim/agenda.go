package sim

import "time"

// MaxPending bounds the events that wait in one world, or on one host's clock.
// Reaching it is a fault of the caller, who schedules without end.
const MaxPending = 1 << 20

// entry is an event's place in the heap. The function stands apart, so that
// the heap moves few bytes.
type entry struct {
	at   time.Duration
	seq  uint64
	slot int32
}

func (e entry) before(o entry) bool {
	if e.at != o.at {
		return e.at < o.at
	}
	return e.seq < o.seq
}

type slot struct {
	fn  func()
	gen uint32 // how often the slot was used; tells an old Timer from the present one
}

// agenda is a binary heap of functions by time, then by order of entry. A
// cancelled event keeps its place in the heap until it comes up, or until such
// events are more than half of all.
type agenda struct {
	heap  []entry
	slots []slot
	free  []int32
	seq   uint64
	dead  int
}

// Timer is one pending event. The zero Timer is pending nowhere.
type Timer struct {
	a    *agenda
	slot int32
	gen  uint32
}

// Pending says whether the event is still to come.
func (t Timer) Pending() bool {
	return t.a != nil && t.a.slots[t.slot].gen == t.gen && t.a.slots[t.slot].fn != nil
}

// Stop cancels the event and says whether it was still to come.
func (t Timer) Stop() bool {
	if !t.Pending() {
		return false
	}
	a := t.a
	a.slots[t.slot].fn = nil
	a.dead++
	if a.dead > 64 && a.dead > len(a.heap)/2 {
		a.sweep()
	}
	return true
}

func (a *agenda) add(at time.Duration, fn func()) Timer {
	if fn == nil {
		panic("sim: an event without a function")
	}
	if len(a.heap) >= MaxPending {
		panic("sim: more than MaxPending events wait: something schedules without end")
	}
	var s int32
	if n := len(a.free); n > 0 {
		s, a.free = a.free[n-1], a.free[:n-1]
	} else {
		s = int32(len(a.slots))
		a.slots = append(a.slots, slot{})
	}
	a.slots[s].fn = fn
	a.seq++
	a.heap = append(a.heap, entry{at, a.seq, s})
	a.up(len(a.heap) - 1)
	return Timer{a, s, a.slots[s].gen}
}

// next is the time of the first event that was not cancelled.
func (a *agenda) next() (time.Duration, bool) {
	for len(a.heap) > 0 {
		e := a.heap[0]
		if a.slots[e.slot].fn != nil {
			return e.at, true
		}
		a.dead--
		a.removeFirst()
	}
	return 0, false
}

// take removes the first event, which next has just found, and returns it.
func (a *agenda) take() func() {
	fn := a.slots[a.heap[0].slot].fn
	a.removeFirst()
	return fn
}

// clear cancels everything.
func (a *agenda) clear() {
	for _, e := range a.heap {
		a.release(e.slot)
	}
	a.heap, a.dead = a.heap[:0], 0
}

func (a *agenda) release(s int32) {
	a.slots[s].fn = nil
	a.slots[s].gen++
	a.free = append(a.free, s)
}

func (a *agenda) removeFirst() {
	a.release(a.heap[0].slot)
	last := len(a.heap) - 1
	a.heap[0] = a.heap[last]
	a.heap = a.heap[:last]
	if last > 0 {
		a.down(0)
	}
}

// sweep drops the cancelled events and orders the rest anew.
func (a *agenda) sweep() {
	live := a.heap[:0]
	for _, e := range a.heap {
		if a.slots[e.slot].fn == nil {
			a.release(e.slot)
		} else {
			live = append(live, e)
		}
	}
	a.heap, a.dead = live, 0
	for i := len(live)/2 - 1; i >= 0; i-- {
		a.down(i)
	}
}

func (a *agenda) up(i int) {
	h, e := a.heap, a.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (a *agenda) down(i int) {
	h, e := a.heap, a.heap[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if r := child + 1; r < len(h) && h[r].before(h[child]) {
			child = r
		}
		if !h[child].before(e) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = e
}
