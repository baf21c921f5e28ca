// Package tap records what a device receives and sends.
package tap

import (
	"io"
	"time"

	"onevoice/internal/pcap"
	"onevoice/link"
)

// Tap is a link.Device that writes every frame it receives and sends to a pcap
// file. The capture shows what the daemon saw and said, after the filter.
type Tap struct {
	link.Device
	w     *pcap.Writer
	now   func() time.Time
	frame []byte
}

var _ link.Device = (*Tap)(nil)

// New wraps d and writes the file's header to w, and from there on what passes, as
// soon as it does. now gives the time stamps. The tap stops writing at w's first
// error, which Err reports; the device goes on.
func New(d link.Device, w io.Writer, now func() time.Time) *Tap {
	t := &Tap{Device: d, w: pcap.NewWriter(w), now: now}
	t.flush()
	return t
}

// Receive implements link.Device.
func (t *Tap) Receive(frames []link.Frame) (int, error) {
	n, err := t.Device.Receive(frames)
	for i := range n {
		t.record(frames[i].Data)
	}
	t.flush()
	return n, err
}

// Send implements link.Device.
func (t *Tap) Send(vectors []link.Vector) error {
	for i := range vectors {
		t.record(vectors[i].Pieces...)
	}
	t.flush()
	return t.Device.Send(vectors)
}

// Err is the first error of the file, nil while all is written.
func (t *Tap) Err() error { return t.w.Flush() }

// flush leaves its error with the writer, which keeps it for Err.
func (t *Tap) flush() { _ = t.w.Flush() }

func (t *Tap) record(pieces ...[]byte) {
	t.frame = t.frame[:0]
	for _, p := range pieces {
		t.frame = append(t.frame, p...)
	}
	t.w.Frame(time.Duration(t.now().UnixNano()), t.frame)
}
