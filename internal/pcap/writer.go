package pcap

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// Constants of draft-ietf-opsawg-pcap §4.
const (
	magicMicro   = 0xa1b2c3d4
	magicNano    = 0xa1b23c4d
	linkEthernet = 1
	// MaxFrame bounds the bytes of one frame, written or read.
	MaxFrame = 256 << 10
)

// Writer writes a pcap file with stamps in nanoseconds (§4 and §5):
//
//	0         4                 8       12      16        20
//	| magic   | major | minor   | zone  | zeros | longest | link type |
//	| seconds | nanoseconds     | bytes kept    | bytes   | frame …
type Writer struct {
	w   *bufio.Writer
	buf []byte
}

// NewWriter writes the file's header.
func NewWriter(w io.Writer) *Writer {
	p := &Writer{w: bufio.NewWriterSize(w, 1<<16)}
	b := binary.LittleEndian.AppendUint32(nil, magicNano)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint32(b, MaxFrame)
	b = binary.LittleEndian.AppendUint32(b, linkEthernet)
	_, _ = p.w.Write(b) // a bufio.Writer keeps its error for Flush
	return p
}

// Frame writes one frame that was seen at a time since 1970.
func (p *Writer) Frame(at time.Duration, frame []byte) { p.Part(at, frame, len(frame)) }

// Part writes the first bytes of a frame that was longer.
func (p *Writer) Part(at time.Duration, frame []byte, bytes int) {
	kept := min(len(frame), MaxFrame)
	b := binary.LittleEndian.AppendUint32(p.buf[:0], uint32(at/time.Second))
	b = binary.LittleEndian.AppendUint32(b, uint32(at%time.Second))
	b = binary.LittleEndian.AppendUint32(b, uint32(kept))
	b = binary.LittleEndian.AppendUint32(b, uint32(bytes))
	p.buf = append(b, frame[:kept]...)
	_, _ = p.w.Write(p.buf)
}

// Flush writes what is left and returns the first error there was. The file is
// the caller's to close.
func (p *Writer) Flush() error { return p.w.Flush() }
