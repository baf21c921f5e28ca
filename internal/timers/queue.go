// Package timers orders timers by when they are due. It has no clock.
package timers

import (
	"container/heap"
	"time"
)

// Timer is a function that is to run once, each time that it was set.
type Timer struct {
	Run func()
	at  time.Duration
	seq uint64
	// place is where it stands in the queue, counted from 1; 0 when it is not there.
	place int
}

// At is when the timer was last set to be due.
func (t *Timer) At() time.Duration { return t.at }

// Queue is the timers that are set, of which those that are due at the same time run in the
// order in which they were set. The zero value has none.
type Queue struct {
	timers order
	seq    uint64
}

// Set sets a timer, or sets it anew.
func (q *Queue) Set(t *Timer, at time.Duration) {
	q.seq++
	t.at, t.seq = at, q.seq
	if t.place > 0 {
		heap.Fix(&q.timers, t.place-1)
		return
	}
	heap.Push(&q.timers, t)
}

// Remove takes a timer out; false when it was not set.
func (q *Queue) Remove(t *Timer) bool {
	if t.place == 0 {
		return false
	}
	heap.Remove(&q.timers, t.place-1)
	return true
}

// First is when the first timer is due; false when none is set.
func (q *Queue) First() (at time.Duration, ok bool) {
	if len(q.timers) == 0 {
		return 0, false
	}
	return q.timers[0].at, true
}

// Due takes out the first timer if it is due, nil if not.
func (q *Queue) Due(now time.Duration) *Timer {
	if at, ok := q.First(); !ok || at > now {
		return nil
	}
	return heap.Pop(&q.timers).(*Timer)
}

// order is by time, and then by when it was set.
type order []*Timer

// Len implements heap.Interface.
func (o order) Len() int { return len(o) }

// Less implements heap.Interface.
func (o order) Less(i, j int) bool {
	if o[i].at != o[j].at {
		return o[i].at < o[j].at
	}
	return o[i].seq < o[j].seq
}

// Swap implements heap.Interface.
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (o *order) Push(x any) {
	t := x.(*Timer)
	t.place = len(*o) + 1
	*o = append(*o, t)
}

// Pop implements heap.Interface.
func (o *order) Pop() any {
	last := len(*o) - 1
	t := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	t.place = 0
	return t
}
