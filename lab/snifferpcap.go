package lab

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// pcapFile writes frames in the format of draft-ietf-opsawg-pcap §4 and §5,
// with stamps in nanoseconds:
//
//	0         4                 8       12      16        20
//	| magic   | major | minor   | zone  | zeros | longest | link type |
//	| seconds | nanoseconds     | bytes kept    | bytes   | frame …
//
// It stops writing at the first error, which close reports.
type pcapFile struct {
	w   *bufio.Writer
	buf []byte
}

const (
	pcapNanoseconds  = 0xa1b23c4d
	pcapLinkEthernet = 1
)

func newPcapFile(w io.Writer) *pcapFile {
	p := &pcapFile{w: bufio.NewWriterSize(w, 1<<20)}
	b := binary.LittleEndian.AppendUint32(nil, pcapNanoseconds)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 0xffff)
	b = binary.LittleEndian.AppendUint32(b, pcapLinkEthernet)
	// A bufio.Writer keeps its error for Flush.
	_, _ = p.w.Write(b)
	return p
}

func (p *pcapFile) frame(at time.Time, c *Capture) {
	b := binary.LittleEndian.AppendUint32(p.buf[:0], uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(c.Bytes))
	p.buf = append(b, c.Data...)
	_, _ = p.w.Write(p.buf)
}

func (p *pcapFile) close() error { return p.w.Flush() }
