package responder

import (
	"encoding/binary"
	"slices"
)

// Cut cuts a frame with an IP packet without extension headers into frames whose
// packets have at most mtu bytes, as the packet's sender may (RFC 791 §3.2; RFC 8200
// §4.5). Of IPv4, which needs it for that, DF is cleared and the identification set
// even where one frame does; of IPv6 such a frame is returned as it is. id is one
// that nobody foresees (RFC 7739 §4). The frames do not share bytes with the given
// one, if they are several.
func Cut(frame []byte, mtu int, id uint32) [][]byte {
	ip := frame[ethernetBytes:]
	if ip[0]>>4 == 6 {
		if len(ip) <= mtu {
			return [][]byte{frame}
		}
		return cut(frame, ipv6Bytes, mtu, func(f []byte, offset int, more bool) []byte {
			return fragment6(f, offset, more, id)
		})
	}
	header := int(ip[0]&0xf) * 4
	if len(ip) <= mtu {
		fragment4(frame, 0, false, id)
		return [][]byte{frame}
	}
	return cut(frame, header, mtu, func(f []byte, offset int, more bool) []byte {
		return fragment4(f, offset, more, id)
	})
}

// cut cuts behind the header; finish makes a frame of headers and a part of the data a
// fragment.
func cut(frame []byte, header, mtu int, finish func(f []byte, offset int, more bool) []byte) (out [][]byte) {
	head, data := frame[:ethernetBytes+header], frame[ethernetBytes+header:]
	room := mtu - header
	if header == ipv6Bytes {
		room -= fragmentHeaderBytes
	}
	room &^= 7
	for at := 0; at < len(data); at += room {
		part := data[at:min(at+room, len(data))]
		f := append(slices.Clone(head), part...)
		out = append(out, finish(f, at, at+len(part) < len(data)))
	}
	return out
}

// fragment4 makes a frame with the data at an offset a fragment.
func fragment4(f []byte, offset int, more bool, id uint32) []byte {
	ip := f[ethernetBytes:]
	header := int(ip[0]&0xf) * 4
	field := uint16(offset / 8)
	if more {
		field |= moreFragments
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], uint16(id))
	binary.BigEndian.PutUint16(ip[6:], field)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^Sum(0, ip[:header]))
	return f
}

// fragmentHeaderBytes and nextFragment are of the header of RFC 8200 §4.5.
const (
	fragmentHeaderBytes = 8
	nextFragment        = 44
)

func fragment6(f []byte, offset int, more bool, id uint32) []byte {
	field := uint16(offset)
	if more {
		field |= 1
	}
	ip := f[ethernetBytes:]
	h := []byte{ip[6], 0, byte(field >> 8), byte(field), 0, 0, 0, 0}
	binary.BigEndian.PutUint32(h[4:], id)
	ip[6] = nextFragment
	f = slices.Insert(f, ethernetBytes+ipv6Bytes, h...)
	binary.BigEndian.PutUint16(f[ethernetBytes+4:], uint16(len(f)-ethernetBytes-ipv6Bytes))
	return f
}
