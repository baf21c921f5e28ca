package control

import (
	"slices"
	"testing"
	"time"
)

// on runs fn on a host's loop.
func (w *town) on(i int, fn func(now time.Duration, l *Loop)) {
	w.t.Helper()
	if err := w.hosts[i].loop.Call(func(now time.Duration) { fn(now, w.hosts[i].loop) }); err != nil {
		w.t.Fatal(err)
	}
}

// A host says of nobody that it does not hear him before it could have heard him, and
// tells when what it hears has changed, at a bounded rate.
func TestWhoIsHeardIsToldAtOnce(t *testing.T) {
	w := cardTown(t, 2, 2)
	w.until("a cold start", all(0, 1))
	other := w.hosts[1].loop.Core.ID()
	w.on(0, func(now time.Duration, l *Loop) {
		young := func() *cards {
			return &cards{loop: l, jobs: make(chan bool, 1), book: map[uint64]heardCard{}, asked: map[uint64]cardMessage{}, answered: map[uint64]time.Duration{}}
		}
		// It is a member, and nobody is there.
		c, at := young(), now+time.Hour
		c.look(at)
		c.take(at, other, []byte(`{"ask":7}`))
		c.made(at, Card{})
		if c.look(at + heardFor - 1); c.sentAt != 0 || len(c.asked) != 1 {
			t.Errorf("it told after %v, and %d wait for its answer", c.sentAt-at, len(c.asked))
		}
		if c.look(at + heardFor); c.sentAt != at+heardFor || len(c.asked) != 0 || len(c.told) != 0 {
			t.Errorf("it told after %v of %v, and %d wait for its answer", c.sentAt-at, c.told, len(c.asked))
		}

		// Who hears all tells at once, and again when one is lost.
		for _, h := range l.Core.Status(now).Hosts {
			if !h.Self {
				at = now - h.Heard
			}
		}
		c = young()
		c.look(at)
		if c.made(at, Card{}); c.sentAt != at || !slices.Equal(c.told, []uint64{other}) {
			t.Errorf("it told after %v of %v", c.sentAt-at, c.told)
		}
		if c.look(at + heardFor); c.sentAt != at {
			t.Error("it told again of what had not changed")
		}
		if c.look(at + heardFor + 1); c.sentAt != at+heardFor+1 || len(c.told) != 0 {
			t.Errorf("it told last after %v, of %v", c.sentAt-at, c.told)
		}
		at = c.sentAt
		c.told = []uint64{other}
		if c.look(at + hearsAgain - 1); c.sentAt != at {
			t.Errorf("it told again after %v", c.sentAt-at)
		}
		if c.look(at + hearsAgain); c.sentAt != at+hearsAgain {
			t.Errorf("it told last %v ago", at+hearsAgain-c.sentAt)
		}
	})
}

// A host that has started anew is told at once what it has forgotten.
func TestWhoStartsAnewIsTold(t *testing.T) {
	w := cardTown(t, 2, 2)
	w.until("a cold start", all(0, 1))
	knows := func(i int) (known bool) {
		w.on(i, func(now time.Duration, l *Loop) { known = len(l.Cards(now).Cards) == 1 })
		return known
	}
	w.until("each has told", func(map[int]int) bool { return knows(0) && knows(1) })
	w.stop(1)
	w.on(0, func(now time.Duration, l *Loop) {
		// By itself it tells nothing for an hour.
		l.cards.sentAt, l.cards.madeAt = now+time.Hour, now+time.Hour
		for id, h := range l.cards.book {
			h.at = now - hearsAgain
			l.cards.book[id] = h
		}
	})
	w.start(1)
	w.until("it is told anew", func(map[int]int) bool { return knows(1) })
}
