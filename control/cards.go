package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Intervals of cards.
const (
	// cardEvery is how often a host sends its card, and cardAnew how old what it then
	// tells may be.
	cardEvery = 10 * time.Second
	cardAnew  = time.Minute
	// examineAgain is for how long what one examination has found is told to the next
	// one that asks.
	examineAgain = 2 * time.Second
	// heardFor is for how long a node counts as heard on a card, and spokeFor for how
	// long as alive by its datagrams. Who is heard is told again when it changes,
	// hearsAgain after the card before at the earliest.
	heardFor   = time.Second
	hearsAgain = 250 * time.Millisecond
	spokeFor   = 3 * time.Second
	// framesFor is how long after the last answer frames are waited for: they left
	// before it.
	framesFor = 300 * time.Millisecond
)

// CardCounts count what came as a card.
type CardCounts struct {
	// Bad could not be read. Ignored asked again too soon, or was of no member.
	Bad     uint64 `json:"bad"`
	Ignored uint64 `json:"ignored"`
}

// cards is a Loop's part in what hosts tell each other of themselves. It belongs to the
// loop's goroutine, and has one that finds out what this host's own card says.
type cards struct {
	loop *Loop
	// jobs has room for one: somebody asks for the card, or nobody does.
	jobs   chan bool
	own    *Card
	making bool
	// madeAt is when own was found out, sentAt when it was last sent; both 0 for never.
	madeAt, sentAt time.Duration
	// beganAt is when this host began to listen, and told whom it said that it hears.
	beganAt time.Duration
	told    []uint64
	book    map[uint64]heardCard
	// asked are members that wait for this host's card, with the number of their
	// question and the probes that were sent for it; answered is when each was last
	// answered.
	asked    map[uint64]cardMessage
	answered map[uint64]time.Duration
	counts   CardCounts
	exam     examination
}

// examination is what this host has asked the others.
type examination struct {
	ask     uint64
	begunAt time.Duration
	waits   map[uint64]bool
	heard   map[uint64][][2]int // by member and path: short ones, long ones
	sent    map[uint64][]sentProbe
	// told are closed when all have answered, done when all of their frames came too.
	told, done []chan struct{}
}

// Examined is what hosts have told and what came of the probes that they sent.
type Examined struct {
	// Own is what this host tells the others; nil before it is known.
	Own    *Card       `json:"own,omitempty"`
	Cards  []HeardCard `json:"cards"`
	Probes []Probe     `json:"probes"`
	// Silent are the ids of the members that are alive and did not answer.
	Silent []string `json:"silent,omitempty"`
}

func newCards(l *Loop) *cards {
	c := &cards{loop: l, jobs: make(chan bool, 1), book: map[uint64]heardCard{}, asked: map[uint64]cardMessage{}, answered: map[uint64]time.Duration{}}
	l.Transport.TakeCards(c.take)
	l.Transport.TakeProbes(c.takeProbe)
	return c
}

// run is the goroutine `control.cards.run`; it ends with the loop.
func (c *cards) run() {
	for asked := range c.jobs {
		card := c.loop.Card(asked)
		c.loop.post(func(now time.Duration) { c.made(now, card) })
	}
}

// turn does what is due, about once a second.
func (c *cards) turn(now time.Duration) {
	members := c.loop.Core.Members()
	for id := range c.book {
		if _, in := members[id]; !in {
			delete(c.book, id)
			delete(c.answered, id)
		}
	}
	switch {
	case c.own == nil || now-c.madeAt >= cardAnew:
		c.make(false)
	case c.sentAt > 0 && now-c.sentAt >= cardEvery:
		c.sendAll(now)
	}
}

// look tells the card at once when it says of others that they are heard, or are not, and
// did not say so before. It is for every turn of the loop.
func (c *cards) look(now time.Duration) {
	if c.loop.Core.Applied() == 0 {
		return
	}
	if c.beganAt == 0 {
		c.beganAt = now
	}
	if c.own != nil && !c.making && now-c.sentAt >= hearsAgain && (c.sentAt == 0 || !slices.Equal(c.hears(now), c.told)) {
		c.tell(now)
	}
}

// tooSoon: this host is a member for too short a time to say of others that it does not
// hear them.
func (c *cards) tooSoon(now time.Duration) bool {
	return c.beganAt == 0 || now-c.beganAt < heardFor && len(c.hears(now)) < min(len(c.loop.Core.Members())-1, maxCardEntries)
}

// make finds out what is on this host's card, unless that is under way.
func (c *cards) make(asked bool) {
	if !c.making {
		c.making = true
		c.jobs <- asked
	}
}

// made takes the card that make has begun.
func (c *cards) made(now time.Duration, card Card) {
	c.making, c.own, c.madeAt = false, &card, now
	delete(c.exam.waits, c.loop.Core.ID())
	c.tell(now)
	c.exam.finish()
}

// tell answers who has asked, and sends the card to all members.
func (c *cards) tell(now time.Duration) {
	if c.tooSoon(now) {
		return
	}
	for id, m := range c.asked {
		c.send(now, id, m)
	}
	clear(c.asked)
	c.sendAll(now)
}

// sendAll sends the card to all members.
func (c *cards) sendAll(now time.Duration) {
	c.sentAt, c.told = now, c.hears(now)
	for id := range c.loop.Core.Members() {
		if id != c.loop.Core.ID() {
			c.send(now, id, cardMessage{})
		}
	}
}

// send sends the card to one member, as an answer or by itself.
func (c *cards) send(now time.Duration, to uint64, m cardMessage) {
	m.Card = c.now(now)
	_, known := c.book[to]
	m.Hello = !known
	c.put(now, to, m)
}

// now is this host's card with the times of now.
func (c *cards) now(now time.Duration) *Card {
	card := *c.own
	card.Wall, card.Boot, card.Hears = int64(c.loop.WallClock()), int64(now), c.hears(now)
	if c.loop.Evidence != nil {
		flows := c.loop.Evidence().Flows
		card.Flows = &flows
	}
	return &card
}

func (c *cards) put(now time.Duration, to uint64, m cardMessage) {
	b, err := m.encode()
	if err == nil {
		err = c.loop.Transport.SendCard(now, to, b)
	}
	if err != nil {
		c.loop.stats.SendErrors++
	}
}

// hears are the members that this host hears on the shared MACs.
func (c *cards) hears(now time.Duration) []uint64 {
	heard := c.loop.Core.Hears(now, heardFor)
	return heard[:min(len(heard), maxCardEntries)]
}

// take takes a message of a member.
func (c *cards) take(now time.Duration, from uint64, b []byte) {
	m, ok := readCardMessage(b)
	if !ok {
		c.counts.Bad++
		return
	}
	if _, in := c.loop.Core.Members()[from]; !in {
		c.counts.Ignored++
		return
	}
	if m.Card != nil {
		var before *heardCard
		if h, known := c.book[from]; known {
			before = &h
		}
		c.book[from] = heardCard{card: *m.Card, at: now, wall: c.loop.WallClock()}.follow(before)
		// Who is new here has not been told of this host, and one that has started anew
		// has forgotten it.
		unknown := before == nil || m.Hello && now-before.at >= hearsAgain
		if unknown && c.own != nil && c.sentAt > 0 && m.Answer == 0 {
			c.send(now, from, cardMessage{})
		}
	}
	if m.Answer != 0 && m.Answer == c.exam.ask {
		c.exam.sent[from] = m.Sent
		delete(c.exam.waits, from)
		c.exam.finish()
	}
	if m.Ask != 0 {
		c.askedBy(now, from, m.Ask)
	}
}

// askedBy sends probes at once, and the card when it is known anew.
func (c *cards) askedBy(now time.Duration, from, ask uint64) {
	if at, before := c.answered[from]; before && now-at < probeAgain {
		c.counts.Ignored++
		return
	}
	c.answered[from] = now
	c.asked[from] = cardMessage{Answer: ask, Sent: c.loop.sendProbes(ask)}
	c.make(true)
}

// takeProbe counts a frame that was asked for.
func (c *cards) takeProbe(from uint64, payload []byte) {
	if len(payload) != probeBytes || c.exam.ask == 0 || binary.BigEndian.Uint64(payload) != c.exam.ask {
		return
	}
	path, long := int(payload[8]), int(payload[9]&1)
	if path >= min(len(c.loop.LANs), maxProbePaths) {
		return
	}
	if c.exam.heard[from] == nil {
		c.exam.heard[from] = make([][2]int, len(c.loop.LANs))
	}
	c.exam.heard[from][path][long]++
	c.exam.finish()
}

// begin asks all members, unless they were asked a moment ago. The channels are closed
// when all who are alive have answered, and when all of their frames are there.
func (c *cards) begin(now time.Duration) (told, done chan struct{}) {
	e := &c.exam
	told, done = make(chan struct{}), make(chan struct{})
	if e.ask != 0 && now-e.begunAt < examineAgain {
		e.told, e.done = append(e.told, told), append(e.done, done)
		e.finish()
		return told, done
	}
	tellAll(&e.told)
	tellAll(&e.done)
	// Answers to an earlier start's questions are not taken for this one's.
	*e = examination{ask: uint64(now) | 1, begunAt: now, waits: map[uint64]bool{}, heard: map[uint64][][2]int{}, sent: map[uint64][]sentProbe{}, told: []chan struct{}{told}, done: []chan struct{}{done}}
	hears := c.hears(now)
	for id := range c.loop.Core.Members() {
		if id == c.loop.Core.ID() {
			continue
		}
		at, spoke := c.loop.Transport.Spoke(id)
		e.waits[id] = slices.Contains(hears, id) || spoke && now-at <= spokeFor
		c.put(now, id, cardMessage{Ask: e.ask})
	}
	e.waits[c.loop.Core.ID()] = true
	maps.DeleteFunc(e.waits, func(_ uint64, alive bool) bool { return !alive })
	c.make(true)
	return told, done
}

// finish tells who waits when nothing more is to come.
func (e *examination) finish() {
	if len(e.waits) > 0 {
		return
	}
	tellAll(&e.told)
	for id, sent := range e.sent {
		for path := range sent {
			if heard := e.heardOf(id, path); heard[0] < sent[path].Short || heard[1] < sent[path].Long {
				return
			}
		}
	}
	tellAll(&e.done)
}

// tellAll tells all who wait on channels.
func tellAll(list *[]chan struct{}) {
	for _, c := range *list {
		close(c)
	}
	*list = nil
}

func (e *examination) heardOf(id uint64, path int) [2]int {
	if of := e.heard[id]; path < len(of) {
		return of[path]
	}
	return [2]int{}
}

// result is what is known now.
func (c *cards) result(now time.Duration) (out Examined) {
	if c.own != nil {
		out.Own = c.now(now)
	}
	for id, h := range c.book {
		out.Cards = append(out.Cards, h.status(id, now))
	}
	for id, sent := range c.exam.sent {
		for path, s := range sent[:min(len(sent), len(c.loop.LANs))] {
			heard := c.exam.heardOf(id, path)
			out.Probes = append(out.Probes, Probe{ID: fmt.Sprintf("%x", id), Path: c.loop.LANs[path].String(), Short: s.Short, ShortHeard: heard[0], Long: s.Long, LongHeard: heard[1], Bytes: s.Bytes})
		}
	}
	for id := range c.exam.waits {
		if id == c.loop.Core.ID() {
			continue
		}
		out.Silent = append(out.Silent, fmt.Sprintf("%x", id))
	}
	slices.SortFunc(out.Cards, func(a, b HeardCard) int { return compareIDs(a.ID, b.ID) })
	slices.SortStableFunc(out.Probes, func(a, b Probe) int { return compareIDs(a.ID, b.ID) })
	slices.Sort(out.Silent)
	return out
}

func compareIDs(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return slices.Compare([]byte(a), []byte(b))
}

// Cards are what this host and others have told of themselves; Own is nil while it has
// told nothing. It is for functions that Call runs.
func (l *Loop) Cards(now time.Duration) Examined {
	if l.cards == nil {
		return Examined{}
	}
	out := l.cards.result(now)
	out.Probes, out.Silent = nil, nil
	if l.cards.sentAt == 0 {
		out.Own = nil
	}
	return out
}

// Examine asks the other hosts what is on their cards now, has them send frames to the
// shared MACs, and returns what came until ctx is done.
func (l *Loop) Examine(ctx context.Context) (out Examined, err error) {
	if l.cards == nil {
		return out, nil
	}
	var told, done chan struct{}
	if err := l.Call(func(now time.Duration) { told, done = l.cards.begin(now) }); err != nil {
		return out, err
	}
	select {
	case <-told:
	case <-ctx.Done():
	case <-l.done:
		return out, ErrEnded
	}
	frames := time.NewTimer(framesFor)
	defer frames.Stop()
	select {
	case <-done:
	case <-frames.C:
	case <-ctx.Done():
	case <-l.done:
		return out, ErrEnded
	}
	return out, l.Call(func(now time.Duration) { out = l.cards.result(now) })
}
