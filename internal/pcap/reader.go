package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Frame is one captured frame.
type Frame struct {
	// At is its stamp, since 1970.
	At time.Duration
	// Data is what was kept of it. It is good until the next call of Next.
	Data []byte
	// Bytes is how long it was.
	Bytes int
}

// ErrFormat is wrapped by every error about what is in a file.
var ErrFormat = errors.New("not a capture that can be read")

// Reader reads a capture frame by frame.
type Reader struct {
	r      *bufio.Reader
	order  binary.ByteOrder
	next   func() (Frame, error)
	count  int // frames so far, for errors
	buf    []byte
	nano   bool
	ifaces []iface
}

// NewReader looks at the beginning of a file. It takes pcap and pcapng, of either
// byte order, of Ethernet.
func NewReader(r io.Reader) (*Reader, error) {
	p := &Reader{r: bufio.NewReaderSize(r, 1<<16)}
	head, err := p.r.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("%w: it has only %d bytes", ErrFormat, len(head))
	}
	little, big := binary.LittleEndian.Uint32(head), binary.BigEndian.Uint32(head)
	switch {
	case little == magicMicro || little == magicNano:
		p.order, p.nano = binary.LittleEndian, little == magicNano
	case big == magicMicro || big == magicNano:
		p.order, p.nano = binary.BigEndian, big == magicNano
	case little == blockSection:
		p.next = p.nextBlock
		return p, nil
	case head[0] == 0x1f && head[1] == 0x8b:
		return nil, fmt.Errorf("%w: it is compressed; unpack it with gunzip first", ErrFormat)
	default:
		return nil, fmt.Errorf("%w: it begins with %x, as neither pcap nor pcapng does; write one with tcpdump -w", ErrFormat, head)
	}
	p.next = p.nextRecord
	return p, p.header()
}

// Next is the next frame, io.EOF after the last.
func (p *Reader) Next() (Frame, error) {
	f, err := p.next()
	if err == nil {
		p.count++
	}
	return f, err
}

// header reads the 24 bytes before the first record.
func (p *Reader) header() error {
	var h [24]byte
	if _, err := io.ReadFull(p.r, h[:]); err != nil {
		return fmt.Errorf("%w: it ends within its header", ErrFormat)
	}
	// The upper bits tell of a frame check sequence (§4, FCS len).
	return ethernet(p.order.Uint32(h[20:]) & 0xffff)
}

func ethernet(link uint32) error {
	if link != linkEthernet {
		return fmt.Errorf("%w: its link type is %d, and only Ethernet (1) has MAC addresses; capture on an interface such as eth0, not on `any`", ErrFormat, link)
	}
	return nil
}

// nextRecord reads a record of pcap (§5).
func (p *Reader) nextRecord() (Frame, error) {
	var h [16]byte
	if n, err := io.ReadFull(p.r, h[:]); n == 0 && err == io.EOF {
		return Frame{}, io.EOF
	} else if err != nil {
		return Frame{}, p.cut()
	}
	fraction := time.Duration(p.order.Uint32(h[4:]))
	if !p.nano {
		fraction *= time.Microsecond
	}
	at := time.Duration(p.order.Uint32(h[0:]))*time.Second + fraction
	data, err := p.take(p.order.Uint32(h[8:]))
	return Frame{at, data, int(p.order.Uint32(h[12:]))}, err
}

// take reads n bytes of a frame.
func (p *Reader) take(n uint32) ([]byte, error) {
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: frame %d is said to have %d bytes; the file is damaged", ErrFormat, p.count+1, n)
	}
	if int(n) > cap(p.buf) {
		p.buf = make([]byte, n)
	}
	b := p.buf[:n]
	if _, err := io.ReadFull(p.r, b); err != nil {
		return nil, p.cut()
	}
	return b, nil
}

func (p *Reader) cut() error {
	return fmt.Errorf("%w: it ends within frame %d; it was cut off", ErrFormat, p.count+1)
}
