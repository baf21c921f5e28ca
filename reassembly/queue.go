package reassembly

// The lists that a datagram is in.
const (
	ofAll = iota
	ofSource
)

// place is a datagram's place in a list.
type place struct{ older, newer *datagram }

// queue is datagrams in the order in which they began, and what they take.
type queue struct {
	list           int // which of a datagram's places is this queue's
	oldest, newest *datagram
	n, bytes       int
}

func (q *queue) push(d *datagram) {
	d.places[q.list] = place{older: q.newest}
	if q.newest == nil {
		q.oldest = d
	} else {
		q.newest.places[q.list].newer = d
	}
	q.newest = d
	q.n++
}

func (q *queue) unlink(d *datagram) {
	p := d.places[q.list]
	if p.older == nil {
		q.oldest = p.newer
	} else {
		p.older.places[q.list].newer = p.newer
	}
	if p.newer == nil {
		q.newest = p.older
	} else {
		p.newer.places[q.list].older = p.older
	}
	q.n--
}
