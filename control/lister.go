package control

import (
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/hashing"
)

// Intervals of a lister.
const (
	// askAgain is when a worker is asked again that had older rights in force.
	askAgain = 20 * time.Millisecond
	// tellEvery bounds how often the worker is told of lists under one table.
	tellEvery = 50 * time.Millisecond
	// tellAgain is how often it is told all of them, for it may be another worker.
	tellAgain = time.Second
)

// ListerConfig is what a Lister is made of.
type ListerConfig struct {
	Core    *cluster.Core
	Servers FlowServers
	// ServiceNames are the core's services, and Key is the key of the lists' hashes.
	ServiceNames []string
	Key          hashing.Key
	// Send sends a message to a member. A loss is not noticed: the next ones come soon.
	Send func(now time.Duration, to uint64, message []byte) error
	// Do has a job done that waits for the servers; two wait at most. nil: by the
	// Lister's own goroutine.
	Do func(job func())
	// Post runs what comes of a job between two turns, and is false if it never will.
	Post func(func(now time.Duration)) bool
}

// Lister is a Loop's part in lists of flows: as a drainer it lists what this
// host's worker holds, as an owner it tells the worker what the drainers hold. It
// belongs to the loop's goroutine, and has one that waits for the worker. Who has a time
// of its own, as a simulation, makes one without a Loop.
type Lister struct {
	cfg  ListerConfig
	book *listBook
	// jobs are for the goroutine, one that asks and one that tells at most.
	jobs chan func()

	// applied is the entry under which the core was last looked at; regranted:
	// there were other rights since.
	applied   uint64
	regranted bool
	// others: there were other workers than the active one then.
	others bool

	draining cluster.Draining
	asking   bool
	askAt    time.Duration

	// generation is that of the rights under which told was told.
	generation             uint64
	telling                bool
	tellAt, mergeAt, allAt time.Duration
	told                   map[listOf]FlowList
	heard                  uint64
}

// NewLister makes one that has listed nothing yet.
func NewLister(cfg ListerConfig) *Lister {
	r := &Lister{cfg: cfg, jobs: make(chan func(), 2), told: map[listOf]FlowList{}}
	if cfg.Do == nil {
		r.cfg.Do = func(job func()) { r.jobs <- job }
	}
	r.book = newListBook(keyIDOf(cfg.Key), cfg.ServiceNames)
	return r
}

func newLister(l *Loop) *Lister {
	r := NewLister(ListerConfig{
		Core: l.Core, Servers: l.Flows, ServiceNames: l.ServiceNames, Key: l.ListKey, Send: l.Transport.SendLists, Post: l.post,
	})
	l.Transport.TakeLists(r.Take)
	return r
}

// Take takes in a message of lists that a member sent.
func (r *Lister) Take(now time.Duration, from uint64, message []byte) {
	r.book.take(now, from, message)
}

// Regranted says that the core has given other rights.
func (r *Lister) Regranted() { r.regranted = true }

// Counts counts lists of flows.
func (r *Lister) Counts() ListCounts { return r.book.counts }

// keyIDOf names a key to those who have it.
func keyIDOf(key hashing.Key) listKeyID {
	sum := sha256.Sum256(append([]byte("onevoice flow list key id\x00"), key[:]...))
	return listKeyID(sum[:8])
}

// run is the goroutine `control.Lister.run`; it ends with the loop.
func (r *Lister) run() {
	for job := range r.jobs {
		job()
	}
}

// Turn does what is due.
func (r *Lister) Turn(now time.Duration) {
	if applied, others := r.cfg.Core.Applied(), r.cfg.Core.OtherWorkers(); applied != r.applied || r.regranted || others != r.others {
		r.applied, r.regranted, r.others = applied, false, others
		r.look(now)
	}
	if !r.asking && len(r.draining.Rows) > 0 && now >= r.askAt {
		r.ask(now)
	}
	if !r.telling && len(r.book.rows) > 0 && now >= r.tellAt {
		r.tell(now)
	}
}

// look looks at who drains what.
func (r *Lister) look(now time.Duration) {
	rows, generation := r.cfg.Core.Drained()
	r.book.know(rows)
	if generation != r.generation {
		// A worker keeps nothing that it was told under other rights.
		r.generation, r.tellAt, r.mergeAt = generation, now, now
		r.told = map[listOf]FlowList{}
	}
	d := r.cfg.Core.Draining()
	if !slices.Equal(d.Rows, r.draining.Rows) {
		r.askAt = now
	}
	r.draining = d
}

// ask asks the worker what it holds, for the owners.
func (r *Lister) ask(now time.Duration) {
	d := r.draining
	wanted := make([][4]uint64, len(r.book.names))
	for _, row := range d.Rows {
		wanted[row.Service][row.Bucket/64] |= 1 << (row.Bucket % 64)
	}
	r.asking, r.askAt = true, now+listEvery
	r.cfg.Do(func() {
		held, err := r.cfg.Servers.Held(wanted)
		r.cfg.Post(func(now time.Duration) {
			r.asking = false
			switch {
			case err != nil:
				r.book.counts.Failed++
			case held.Generation < d.Generation:
				// It may have taken on flows since.
				r.askAt = min(r.askAt, now+askAgain)
			default:
				r.send(now, &d, &held)
			}
		})
	})
}

// send sends each owner the lists of its buckets: an empty one where nothing is
// held.
func (r *Lister) send(now time.Duration, d *cluster.Draining, held *HeldFlows) {
	of := map[listOf]int{}
	for i, service := range held.Services {
		for j := range service {
			of[listOf{0, i, service[j].Bucket}] = j + 1
		}
	}
	lists := map[uint64][]sentList{}
	for _, row := range d.Rows {
		l := sentList{service: r.book.names[row.Service], bucket: row.Bucket, complete: row.Service < len(held.All) && held.All[row.Service]}
		if j := of[listOf{0, row.Service, row.Bucket}]; j > 0 {
			h := &held.Services[row.Service][j-1]
			// Half-open flows are on the list.
			l.complete = l.complete && !h.Overflow
			if l.complete {
				l.hashes = h.Hashes
			}
		}
		lists[row.Owner] = append(lists[row.Owner], l)
	}
	for _, owner := range slices.Sorted(maps.Keys(lists)) {
		for _, m := range encodeLists(r.book.key, d.Epoch, d.Index, lists[owner]) {
			if r.cfg.Send(now, owner, m) == nil {
				r.book.counts.Sent++
			}
		}
	}
}

// tell tells the worker what is new of the lists, or all of it.
func (r *Lister) tell(now time.Duration) {
	whole := now >= r.allAt
	if !whole && r.heard == r.book.counts.Heard && now < r.mergeAt {
		return
	}
	if whole {
		r.allAt = now + tellAgain
	}
	r.heard, r.tellAt, r.mergeAt = r.book.counts.Heard, now+tellEvery, now+listEvery
	var news []FlowList
	for _, l := range r.book.merge(now) {
		of := listOf{0, l.Service, l.Bucket}
		// Without a word nothing is complete.
		if was := r.told[of]; whole || was.Complete != l.Complete || !slices.Equal(was.Hashes, l.Hashes) {
			r.told[of] = l
			news = append(news, l)
		}
	}
	if len(news) == 0 {
		return
	}
	r.telling = true
	generation := r.generation
	r.cfg.Do(func() {
		err := r.cfg.Servers.SetFlowLists(generation, news)
		r.cfg.Post(func(time.Duration) {
			if r.telling = false; err != nil {
				r.book.counts.Failed++
				r.allAt = 0
			}
		})
	})
}
