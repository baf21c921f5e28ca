package pcap

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// Blocks of draft-ietf-opsawg-pcapng §4. Each is
//
//	0      4        8          length-4
//	| type | length | body …   | length |
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockSimple    = 3
	blockEnhanced  = 6

	byteOrderMagic = 0x1a2b3c4d
	optionEnd      = 0
	optionTsresol  = 9
	// maxBlock bounds a block in bytes; maxInterfaces the interfaces of a file.
	maxBlock      = 16 << 20
	maxInterfaces = 1024
)

// iface is an interface of a pcapng file.
type iface struct {
	perSecond uint64 // what a stamp counts
	snap      uint32
	err       error // why its frames are not read
}

// nextBlock reads blocks up to the next one with a frame in it.
func (p *Reader) nextBlock() (Frame, error) {
	for {
		kind, body, err := p.block()
		if err != nil {
			return Frame{}, err
		}
		switch kind {
		case blockInterface:
			if err := p.addInterface(body); err != nil {
				return Frame{}, err
			}
		case blockEnhanced:
			return p.enhanced(body)
		case blockSimple:
			return p.simple(body)
		}
	}
}

// block reads one block. A section's tells the byte order of what follows.
func (p *Reader) block() (kind uint32, body []byte, err error) {
	head, err := p.r.Peek(12)
	if len(head) == 0 && err == io.EOF {
		return 0, nil, io.EOF
	} else if err != nil {
		return 0, nil, p.cut()
	}
	if binary.LittleEndian.Uint32(head) == blockSection {
		p.order, p.ifaces = binary.LittleEndian, nil
		if binary.BigEndian.Uint32(head[8:]) == byteOrderMagic {
			p.order = binary.BigEndian
		} else if binary.LittleEndian.Uint32(head[8:]) != byteOrderMagic {
			return 0, nil, fmt.Errorf("%w: a section without a byte order; the file is damaged", ErrFormat)
		}
	}
	kind = p.order.Uint32(head)
	length := p.order.Uint32(head[4:])
	if length < 12 || length > maxBlock || length%4 != 0 {
		return 0, nil, fmt.Errorf("%w: a block behind frame %d is said to have %d bytes; the file is damaged", ErrFormat, p.count, length)
	}
	if int(length) > cap(p.buf) {
		p.buf = make([]byte, length)
	}
	b := p.buf[:length]
	if _, err := io.ReadFull(p.r, b); err != nil {
		return 0, nil, p.cut()
	}
	return kind, b[8 : length-4], nil
}

// addInterface takes in an interface description (§4.2): link type, 2 bytes that
// mean nothing, the most bytes of a frame, options.
func (p *Reader) addInterface(b []byte) error {
	if len(b) < 8 || len(p.ifaces) == maxInterfaces {
		return fmt.Errorf("%w: an interface that is too short, or more than %d of them", ErrFormat, maxInterfaces)
	}
	i := iface{perSecond: 1e6, snap: p.order.Uint32(b[4:]), err: ethernet(uint32(p.order.Uint16(b)))}
	for o := b[8:]; len(o) >= 4; {
		code, n := p.order.Uint16(o), int(p.order.Uint16(o[2:]))
		if code == optionEnd || len(o) < 4+n {
			break
		}
		if code == optionTsresol && n == 1 {
			i.perSecond = resolution(o[4])
		}
		o = o[min(len(o), 4+(n+3)/4*4):]
	}
	p.ifaces = append(p.ifaces, i)
	return nil
}

// resolution is how much stamps count in a second (§4.2, if_tsresol): a negative
// power of ten, or of two with the highest bit set. Others than up to
// nanoseconds are taken for microseconds.
func resolution(b byte) uint64 {
	switch n := b & 0x7f; {
	case b&0x80 != 0 && n < 32:
		return 1 << n
	case b&0x80 == 0 && n <= 9:
		return uint64(math.Pow10(int(n)))
	}
	return 1e6
}

// enhanced is a packet (§4.3): interface, stamp in two halves, bytes kept, bytes,
// frame.
func (p *Reader) enhanced(b []byte) (Frame, error) {
	if len(b) < 20 {
		return Frame{}, p.cut()
	}
	id, kept := p.order.Uint32(b), p.order.Uint32(b[12:])
	if int64(id) >= int64(len(p.ifaces)) || int64(kept) > int64(len(b)-20) {
		return Frame{}, fmt.Errorf("%w: frame %d is of no interface, or longer than its block; the file is damaged", ErrFormat, p.count+1)
	}
	i := &p.ifaces[id]
	stamp := uint64(p.order.Uint32(b[4:]))<<32 | uint64(p.order.Uint32(b[8:]))
	at := time.Duration(stamp/i.perSecond)*time.Second + time.Duration(float64(stamp%i.perSecond)/float64(i.perSecond)*1e9)
	return Frame{at, b[20 : 20+kept], int(p.order.Uint32(b[16:]))}, i.err
}

// simple is a packet of the first interface without a stamp (§4.4).
func (p *Reader) simple(b []byte) (Frame, error) {
	if len(b) < 4 || len(p.ifaces) == 0 {
		return Frame{}, p.cut()
	}
	bytes := p.order.Uint32(b)
	kept := min(int64(bytes), int64(len(b)-4))
	if s := p.ifaces[0].snap; s > 0 {
		kept = min(kept, int64(s))
	}
	return Frame{0, b[4 : 4+kept], int(bytes)}, p.ifaces[0].err
}
