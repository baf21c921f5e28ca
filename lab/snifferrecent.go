package lab

import (
	"encoding/binary"
	"io"
	"time"

	"onevoice/internal/pcap"
)

// Bounds of what a sniffer remembers.
const (
	// recentBytes is the size of each half: the older is given up when the newer
	// is full. At 5,000 frames a second they last for a minute and more.
	recentBytes = 64 << 20
	// recentFrameBytes are kept of a frame: all headers, and the beginning.
	recentFrameBytes = 128
	// recentAfter frames that follow a breach are kept.
	recentAfter = 5000
)

// recent are the last frames, in the form
//
//	0    8      12      16
//	| at | kept | bytes | frame …
type recent struct {
	newer, older []byte
	// after counts frames since the breach.
	after int
}

// add keeps a frame, which was seen at a time since 1970. broken: a rule has been.
func (r *recent) add(at time.Duration, c *Capture, broken bool) {
	r.after++
	if !broken {
		r.after = 0
	} else if r.after > recentAfter {
		return
	}
	if len(r.newer)+recentFrameBytes+16 > recentBytes {
		r.newer, r.older = r.older[:0], r.newer
	}
	if r.newer == nil {
		r.newer = make([]byte, 0, recentBytes)
	}
	kept := min(len(c.Data), recentFrameBytes)
	b := binary.NativeEndian.AppendUint64(r.newer, uint64(at))
	b = binary.NativeEndian.AppendUint32(b, uint32(kept))
	b = binary.NativeEndian.AppendUint32(b, uint32(c.Bytes))
	r.newer = append(b, c.Data[:kept]...)
}

// write writes them in their order.
func (r *recent) write(out io.Writer) error {
	w := pcap.NewWriter(out)
	for _, half := range [][]byte{r.older, r.newer} {
		for len(half) > 0 {
			at, kept, bytes := binary.NativeEndian.Uint64(half), binary.NativeEndian.Uint32(half[8:]), binary.NativeEndian.Uint32(half[12:])
			w.Part(time.Duration(at), half[16:16+kept], int(bytes))
			half = half[16+kept:]
		}
	}
	return w.Flush()
}
