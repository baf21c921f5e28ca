package reassembly

import (
	"net/netip"
	"slices"
	"time"
)

// Outcome is what became of a fragment.
type Outcome uint8

// Outcomes.
const (
	// Undecided is never the outcome of Add.
	Undecided Outcome = iota
	// Held: it waits for the others.
	Held
	// Duplicate: it was there before, byte by byte.
	Duplicate
	// Whole: it was the last that was missing.
	Whole
	// Overlap: it, or an earlier one of its datagram, covers bytes that another has,
	// or contradicts where the datagram ends. Nothing of the datagram comes out.
	Overlap
	// Tiny: so short that it hides the transport's header, or begins within it.
	Tiny
	// Bad: no part of any datagram: its length is no multiple of 8, or the datagram
	// would be too long.
	Bad
	// TooMany: its datagram is in more pieces than MaxFragments, and is given up.
	TooMany
)

// Bounds.
const (
	// Timeout is how long a datagram's fragments are waited for, from the first to
	// come. RFC 8200 §4.5 says 60 s. RFC 791 §3.2 began with 15 s for IPv4, which may
	// be too short for a path of today's buffers.
	Timeout = 60 * time.Second
	// MaxFragments is in how many pieces a datagram may come. The longest comes in
	// 119 where a link carries no more than 576 bytes.
	MaxFragments = 128
	// MaxDatagrams and MaxBytes bound what waits, of all sources. Beyond them the
	// oldest is given up: honest fragments come within milliseconds of each other.
	MaxDatagrams = 4096
	MaxBytes     = 8 << 20
	// MaxDatagramsOfSource and MaxBytesOfSource are for one source, an IPv6 /64: what
	// it sends too much is its own oldest.
	MaxDatagramsOfSource = 128
	MaxBytesOfSource     = 1 << 20

	// maxHeaderBytes bounds the header of a datagram: 60 bytes of IPv4, and as many
	// extension headers as a node looks through.
	maxHeaderBytes = 256
	// pieceBytes is what a fragment takes besides its bytes, and datagramBytes what a
	// datagram does.
	pieceBytes    = 64
	datagramBytes = 256
)

// Bounds are those of a Table. The zero value of a field is its default above.
type Bounds struct {
	Datagrams, Bytes                 int
	DatagramsOfSource, BytesOfSource int
}

// Counters are what happened besides the outcomes of Add.
type Counters struct {
	// TimedOut datagrams lacked a fragment for Timeout. GivenUp ones had to make room.
	TimedOut, GivenUp uint64
	// Waiting datagrams and their bytes are there now.
	Waiting, Bytes int
}

// Table is the datagrams that lack a fragment. It is not safe for concurrent use.
type Table struct {
	bounds    Bounds
	datagrams map[Key]*datagram
	sources   map[netip.Addr]*queue
	all       queue
	counters  Counters
}

// datagram is what has come of one.
type datagram struct {
	key    Key
	source netip.Addr
	// began is when its first fragment came, first when that fragment was received by
	// its stamp; see Add.
	began, stamp time.Duration
	// first has the header, once the fragment at 0 is there.
	first Fragment
	// pieces are in the order of their offsets.
	pieces []piece
	// have is how many bytes of data there are, end where they end, -1 before that is
	// known.
	have, end int
	// bytes is what it takes.
	bytes int
	// refused: it had an overlap. It stays, without bytes, so that what comes of it
	// later begins nothing new (RFC 5722 §4).
	refused bool

	places [2]place
}

type piece struct {
	offset int
	data   []byte
}

// New makes an empty table.
func New(b Bounds) *Table {
	for _, d := range []struct {
		field     *int
		byDefault int
	}{
		{&b.Datagrams, MaxDatagrams}, {&b.Bytes, MaxBytes},
		{&b.DatagramsOfSource, MaxDatagramsOfSource}, {&b.BytesOfSource, MaxBytesOfSource},
	} {
		if *d.field == 0 {
			*d.field = d.byDefault
		}
	}
	return &Table{
		bounds: b, datagrams: map[Key]*datagram{}, sources: map[netip.Addr]*queue{},
		all: queue{list: ofAll},
	}
}

// Add takes a fragment, whose bytes it copies. With Whole it appends the datagram to
// dst, from the IP header on, and returns the longer slice and the stamp of that of
// its fragments which came first. A node that takes the datagram has to have had the
// right to it since then: another that had it before may have completed the same.
func (t *Table) Add(now, stamp time.Duration, f *Fragment, dst []byte) ([]byte, time.Duration, Outcome) {
	t.Expire(now)
	if o := f.judge(); o != Undecided {
		return dst, 0, o
	}
	if f.Offset == 0 && !f.More {
		// It is whole by itself, whatever else has the same key (RFC 8200 §4.5).
		return append(f.whole(dst, f.Upper, len(f.Data)), f.Data...), stamp, Whole
	}
	d := t.datagrams[f.Key]
	if d == nil {
		d = t.begin(now, stamp, f.Key)
	}
	if d.refused {
		return dst, 0, Overlap
	}
	switch o := d.judge(f); o {
	case Undecided:
	case Duplicate:
		return dst, 0, o
	default:
		t.refuse(d)
		return dst, 0, o
	}
	t.keep(d, f)
	if d.have != d.end || d.first.Header == nil {
		t.makeRoom(d)
		return dst, 0, Held
	}
	dst = d.first.whole(dst, d.first.Upper, d.end)
	for i := range d.pieces {
		dst = append(dst, d.pieces[i].data...)
	}
	t.remove(d)
	return dst, d.stamp, Whole
}

// judge compares a fragment with those that are there: Undecided when it fits.
func (d *datagram) judge(f *Fragment) Outcome {
	end := f.Offset + len(f.Data)
	i, same := d.find(f.Offset)
	if same && string(d.pieces[i].data) == string(f.Data) && f.More == (end != d.end) {
		return Duplicate
	}
	last := 0
	if n := len(d.pieces); n > 0 {
		last = d.pieces[n-1].end()
	}
	switch {
	case same, i > 0 && d.pieces[i-1].end() > f.Offset, i < len(d.pieces) && d.pieces[i].offset < end:
		return Overlap
	case d.end >= 0 && (end > d.end || !f.More), !f.More && last > end:
		return Overlap
	case len(d.pieces) >= MaxFragments:
		return TooMany
	}
	return Undecided
}

// find is where an offset belongs among the pieces.
func (d *datagram) find(offset int) (int, bool) {
	return slices.BinarySearchFunc(d.pieces, offset, func(p piece, at int) int { return p.offset - at })
}

func (p *piece) end() int { return p.offset + len(p.data) }

// keep copies a fragment that fits.
func (t *Table) keep(d *datagram, f *Fragment) {
	i, _ := d.find(f.Offset)
	d.pieces = slices.Insert(d.pieces, i, piece{f.Offset, slices.Clone(f.Data)})
	d.have += len(f.Data)
	if !f.More {
		d.end = f.Offset + len(f.Data)
	}
	n := pieceBytes + len(f.Data)
	if f.Offset == 0 {
		d.first = *f
		d.first.Data, d.first.Header = nil, slices.Clone(f.Header)
		n += len(f.Header)
	}
	t.charge(d, n)
}

// charge counts bytes of a datagram, which may be negative.
func (t *Table) charge(d *datagram, bytes int) {
	d.bytes += bytes
	t.all.bytes += bytes
	t.sources[d.source].bytes += bytes
}

// begin makes a datagram that nothing has come of yet.
func (t *Table) begin(now, stamp time.Duration, k Key) *datagram {
	d := &datagram{key: k, source: sourceOf(k.Src), began: now, stamp: stamp, end: -1}
	q := t.sources[d.source]
	if q == nil {
		q = &queue{list: ofSource}
		t.sources[d.source] = q
	}
	t.datagrams[k] = d
	q.push(d)
	t.all.push(d)
	t.charge(d, datagramBytes)
	return d
}

// sourceOf is what the bounds of a source are counted by: a host of IPv6 has a whole
// /64 to send from.
func sourceOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	// The length is right for the address, so it is no error.
	p, _ := a.Prefix(64)
	return p.Addr()
}

// refuse drops what has come of a datagram, and what will.
func (t *Table) refuse(d *datagram) {
	t.charge(d, datagramBytes-d.bytes)
	d.refused, d.pieces, d.first = true, nil, Fragment{}
}

// makeRoom gives up the oldest, but not the one that has just got a fragment, while
// there is too much: first of its own source.
func (t *Table) makeRoom(d *datagram) {
	b, q := &t.bounds, t.sources[d.source]
	for q.n > b.DatagramsOfSource || q.bytes > b.BytesOfSource {
		if !t.giveUp(q, d) {
			break
		}
	}
	for t.all.n > b.Datagrams || t.all.bytes > b.Bytes {
		if !t.giveUp(&t.all, d) {
			break
		}
	}
}

// giveUp removes the oldest of a queue but one; false when there is no other.
func (t *Table) giveUp(q *queue, but *datagram) bool {
	d := q.oldest
	if d == but {
		d = d.places[q.list].newer
	}
	if d == nil {
		return false
	}
	t.counters.GivenUp++
	t.remove(d)
	return true
}

func (t *Table) remove(d *datagram) {
	t.charge(d, -d.bytes)
	q := t.sources[d.source]
	q.unlink(d)
	if q.n == 0 {
		delete(t.sources, d.source)
	}
	t.all.unlink(d)
	delete(t.datagrams, d.key)
}

// Expire gives up what has waited for Timeout, and reports how many datagrams that
// were which had no overlap.
func (t *Table) Expire(now time.Duration) (n int) {
	for d := t.all.oldest; d != nil && now-d.began >= Timeout; d = t.all.oldest {
		if !d.refused {
			n++
			t.counters.TimedOut++
		}
		t.remove(d)
	}
	return n
}

// Counters reports what has happened so far.
func (t *Table) Counters() Counters {
	c := t.counters
	c.Waiting, c.Bytes = t.all.n, t.all.bytes
	return c
}
