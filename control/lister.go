package control

import (
	"crypto/sha256"
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

// lister is a Loop's part in lists of flows: as a drainer it lists what this
// host's worker holds, as an owner it tells the worker what the drainers hold. It
// belongs to the loop's goroutine, and has one that waits for the worker.
type lister struct {
	core      *cluster.Core
	servers   FlowServers
	transport *Transport
	post      func(func(now time.Duration)) bool
	book      *listBook
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

func newLister(l *Loop) *lister {
	r := &lister{core: l.Core, servers: l.Flows, transport: l.Transport, post: l.post, jobs: make(chan func(), 2), told: map[listOf]FlowList{}}
	r.book = newListBook(keyIDOf(l.ListKey), l.ServiceNames)
	r.transport.TakeLists(r.book.take)
	return r
}

// keyIDOf names a key to those who have it.
func keyIDOf(key hashing.Key) listKeyID {
	sum := sha256.Sum256(append([]byte("onevoice flow list key id\x00"), key[:]...))
	return listKeyID(sum[:8])
}

// run is the goroutine `control.lister.run`; it ends with the loop.
func (r *lister) run() {
	for job := range r.jobs {
		job()
	}
}

// turn does what is due.
func (r *lister) turn(now time.Duration) {
	if applied, others := r.core.Applied(), r.core.OtherWorkers(); applied != r.applied || r.regranted || others != r.others {
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
func (r *lister) look(now time.Duration) {
	rows, generation := r.core.Drained()
	r.book.know(rows)
	if generation != r.generation {
		// A worker keeps nothing that it was told under other rights.
		r.generation, r.tellAt, r.mergeAt = generation, now, now
		r.told = map[listOf]FlowList{}
	}
	d := r.core.Draining()
	if !slices.Equal(d.Rows, r.draining.Rows) {
		r.askAt = now
	}
	r.draining = d
}

// ask asks the worker what it holds, for the owners.
func (r *lister) ask(now time.Duration) {
	d := r.draining
	wanted := make([][4]uint64, len(r.book.names))
	for _, row := range d.Rows {
		wanted[row.Service][row.Bucket/64] |= 1 << (row.Bucket % 64)
	}
	r.asking, r.askAt = true, now+listEvery
	r.jobs <- func() {
		held, err := r.servers.Held(wanted)
		r.post(func(now time.Duration) {
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
	}
}

// send sends each owner the lists of its buckets: an empty one where nothing is
// held.
func (r *lister) send(now time.Duration, d *cluster.Draining, held *HeldFlows) {
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
	for owner, each := range lists {
		for _, m := range encodeLists(r.book.key, d.Epoch, d.Index, each) {
			if r.transport.SendLists(now, owner, m) == nil {
				r.book.counts.Sent++
			}
		}
	}
}

// tell tells the worker what is new of the lists, or all of it.
func (r *lister) tell(now time.Duration) {
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
	r.jobs <- func() {
		err := r.servers.SetFlowLists(generation, news)
		r.post(func(time.Duration) {
			if r.telling = false; err != nil {
				r.book.counts.Failed++
				r.allAt = 0
			}
		})
	}
}
