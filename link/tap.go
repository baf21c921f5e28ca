package link

import (
	"encoding/binary"
	"io"
	"time"
)

// Tap is a Device that writes every frame it receives and sends to a pcap
// file. The capture shows what the daemon saw and said, after the filter.
type Tap struct {
	Device
	w   io.Writer
	now func() time.Time
	buf []byte
	err error
}

var _ Device = (*Tap)(nil)

// Header fields of the pcap file format (draft-ietf-opsawg-pcap, §4) with
// nanosecond time stamps.
const (
	pcapMagicNanoseconds = 0xa1b23c4d
	pcapMajor, pcapMinor = 2, 4
	pcapSnapBytes        = MaxFrameBytes
	pcapLinkEthernet     = 1
)

// NewTap wraps d and writes the file header to w. now gives the time stamps.
// The tap stops writing at w's first error, which Err reports; the device goes
// on.
func NewTap(d Device, w io.Writer, now func() time.Time) *Tap {
	t := &Tap{Device: d, w: w, now: now}
	h := binary.LittleEndian.AppendUint32(nil, pcapMagicNanoseconds)
	h = binary.LittleEndian.AppendUint16(h, pcapMajor)
	h = binary.LittleEndian.AppendUint16(h, pcapMinor)
	h = binary.LittleEndian.AppendUint64(h, 0)
	h = binary.LittleEndian.AppendUint32(h, pcapSnapBytes)
	h = binary.LittleEndian.AppendUint32(h, pcapLinkEthernet)
	_, t.err = w.Write(h)
	return t
}

// Receive implements Device.
func (t *Tap) Receive(frames []Frame) (int, error) {
	n, err := t.Device.Receive(frames)
	for i := range n {
		t.record(frames[i].Data)
	}
	return n, err
}

// Send implements Device.
func (t *Tap) Send(vectors []Vector) error {
	for i := range vectors {
		t.record(vectors[i].Pieces...)
	}
	return t.Device.Send(vectors)
}

// Err is the first error of the file, nil while all is written.
func (t *Tap) Err() error { return t.err }

func (t *Tap) record(pieces ...[]byte) {
	if t.err != nil {
		return
	}
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	now := t.now()
	b := binary.LittleEndian.AppendUint32(t.buf[:0], uint32(now.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(now.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	for _, p := range pieces {
		b = append(b, p...)
	}
	t.buf = b
	_, t.err = t.w.Write(b)
}
