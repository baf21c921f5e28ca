package page

import (
	"encoding/binary"
	"time"
)

// Lease is the right to answer on one path. The zero Lease is none.
type Lease struct {
	// Begin and End are times of CLOCK_BOOTTIME.
	Begin, End time.Duration
	// Generation is that of the table under which the lease was given: with an
	// older table it is not to be used.
	Generation uint64
}

// Bitmap has one bit for each bucket.
type Bitmap [bitmapWords]uint64

// Row is one VIP's or service's part of the table, see node.Rows, and the
// mapping from clients to buckets.
type Row struct {
	Accept, Grace, Shared, Draining Bitmap
	Mapping                         Mapping
}

// Mapping is how clients are led to buckets; generation 0 is none.
type Mapping struct {
	Generation uint64
	Key        [16]byte
	Affinity   uint8
}

// Table is all rows, in the order of the configuration.
type Table struct {
	Generation     uint64
	VIPs, Services []Row
	// Elsewhere: other hosts, or workers, may serve ports that are nobody's here.
	Elsewhere bool
}

func (w *tableWords) store(i int, r *Row) {
	to := &w.rows[i]
	for k, b := range [...]*Bitmap{&r.Accept, &r.Grace, &r.Shared, &r.Draining} {
		for j := range b {
			to.bitmaps[k*bitmapWords+j].Store(b[j])
		}
	}
	m := &r.Mapping
	for j, v := range [mappingWords]uint64{m.Generation, binary.LittleEndian.Uint64(m.Key[:8]), binary.LittleEndian.Uint64(m.Key[8:]), uint64(m.Affinity)} {
		to.mapping[j].Store(v)
	}
}

func (w *tableWords) load(i int, r *Row) {
	from := &w.rows[i]
	for k, b := range [...]*Bitmap{&r.Accept, &r.Grace, &r.Shared, &r.Draining} {
		for j := range b {
			b[j] = from.bitmaps[k*bitmapWords+j].Load()
		}
	}
	m := &r.Mapping
	m.Generation = from.mapping[0].Load()
	binary.LittleEndian.PutUint64(m.Key[:8], from.mapping[1].Load())
	binary.LittleEndian.PutUint64(m.Key[8:], from.mapping[2].Load())
	m.Affinity = uint8(from.mapping[3].Load())
}
