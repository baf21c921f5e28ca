package sim

import "time"

// Link says what one direction of a wire does to what it carries. The zero Link
// loses nothing and takes no time. A link keeps order, except for what Reorder
// holds back. It may be changed at any time; what is on its way stays as it was.
type Link struct {
	DelayMin, DelayMax time.Duration
	Loss, Dup, Corrupt float64 // probability for each frame, 0 to 1; Corrupt spares the Ethernet header
	Reorder            float64 // probability that a frame is held back by HoldBack
	HoldBack           time.Duration
	BitsPerSecond      int64 // 0: no limit
	// QueueBytes bounds what waits for the rate; 0 means DefaultQueueBytes.
	QueueBytes int
}

// DefaultQueueBytes is the queue before a link with a rate.
const DefaultQueueBytes = 512 << 10

// Heal ends the link's faults. Delays and rate stay.
func (l *Link) Heal() { l.Loss, l.Dup, l.Corrupt, l.Reorder = 0, 0, 0, 0 }

// wire is the state of one link.
type wire struct {
	last time.Duration // when the newest that kept order arrives
	held time.Duration // when the newest that was held back arrives
	busy time.Duration // until when the rate is used up
}

// carry takes data over a link and calls then, in events of their own, for each
// copy that gets to the other end: none, one or two. The data is carry's own,
// each copy then's. Its first header bytes are never corrupted.
func (w *World) carry(l *Link, state *wire, data []byte, header int, count func(Counter), then func([]byte)) {
	if w.chance(l.Loss) {
		count(Lost)
		return
	}
	waits, fits := state.transmit(l, w.now, len(data))
	if !fits {
		count(DroppedQueue)
		return
	}
	at := w.now + waits + w.between(l.DelayMin, l.DelayMax)
	if w.chance(l.Reorder) {
		at += l.HoldBack
		state.held = max(state.held, at)
	} else {
		at = max(at, state.last)
		state.last = at
		if at < state.held {
			count(Overtook)
		}
	}
	if w.chance(l.Corrupt) {
		count(Corrupted)
		w.flipBit(data[min(header, len(data)):])
	}
	w.At(at, func() { then(data) })
	if w.chance(l.Dup) {
		count(Duplicated)
		again := append([]byte(nil), data...)
		w.At(at+w.between(0, l.DelayMax-l.DelayMin), func() { then(again) })
	}
}

// transmit is how long n bytes wait for the rate and take to be sent, and
// whether the queue has room for them. An empty queue takes anything.
func (s *wire) transmit(l *Link, now time.Duration, n int) (time.Duration, bool) {
	if l.BitsPerSecond <= 0 {
		return 0, true
	}
	room := l.QueueBytes
	if room <= 0 {
		room = DefaultQueueBytes
	}
	s.busy = max(s.busy, now)
	if wait := s.busy - now; wait > 0 && float64(wait)*float64(l.BitsPerSecond)/8e9+float64(n) > float64(room) {
		return 0, false
	}
	s.busy += time.Duration(int64(n) * 8e9 / l.BitsPerSecond)
	return s.busy - now, true
}

// flipBit makes one random bit of b wrong.
func (w *World) flipBit(b []byte) {
	if len(b) > 0 {
		bit := w.rng.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// inbox is what waits for a host that is paused. A nil host is never paused.
type inbox struct {
	host    *Clock
	waiting int
	life    uint64 // the host's life that waiting belongs to
}

// put calls deliver when the host runs, with the true time at which it was put
// in, and says whether there was room to wait.
func (b *inbox) put(now time.Duration, room int, deliver func(arrived time.Duration)) bool {
	if b.host == nil || !b.host.Late() {
		deliver(now)
		return true
	}
	if b.life != b.host.life {
		b.waiting, b.life = 0, b.host.life
	}
	if b.waiting >= room {
		return false
	}
	b.waiting++
	b.host.Do(func() {
		b.waiting--
		deliver(now)
	})
	return true
}
