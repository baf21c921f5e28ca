package scenario

import (
	"bytes"
	"encoding/binary"

	"onevoice/link"
	"onevoice/responder"
	"onevoice/sim"
)

// TCP's flags that a cut super-segment has once only: FIN and PSH in its last
// segment, CWR in its first (as Linux's tcp_gso_segment does).
const (
	lastOnly  = 0x01 | 0x08
	firstOnly = 0x80
)

// wireFrames are the frames that a kernel makes of one that a worker sends.
func wireFrames(v *link.Vector) [][]byte {
	frame := bytes.Join(v.Pieces, nil)
	switch o := &v.Offload; {
	case o.Segmentation != link.SegmentationNone:
		return cut(frame, int(o.HeaderBytes), int(o.SegmentBytes))
	case o.Partial:
		sum := frame[o.ChecksumStart:]
		binary.BigEndian.PutUint16(sum[o.ChecksumOffset:], ^responder.Sum(0, sum))
	}
	return [][]byte{frame}
}

// cut makes frames of size bytes of data each out of a TCP super-segment, whose
// headers take the first header bytes.
func cut(frame []byte, header, size int) (out [][]byte) {
	const ip = sim.MinFrame
	tcp := ip + int(frame[ip]&0xf)*4
	data := frame[header:]
	seq := binary.BigEndian.Uint32(frame[tcp+4:])
	id := binary.BigEndian.Uint16(frame[ip+4:])
	src, dst := [4]byte(frame[ip+12:]), [4]byte(frame[ip+16:])
	for at := 0; at < len(data); at += size {
		part := data[at:min(at+size, len(data))]
		f := append(bytes.Clone(frame[:header]), part...)
		binary.BigEndian.PutUint16(f[ip+2:], uint16(len(f)-ip))
		binary.BigEndian.PutUint16(f[ip+4:], id+uint16(len(out)))
		binary.BigEndian.PutUint16(f[ip+10:], 0)
		binary.BigEndian.PutUint16(f[ip+10:], ^responder.Sum(0, f[ip:tcp]))
		binary.BigEndian.PutUint32(f[tcp+4:], seq+uint32(at))
		if at+size < len(data) {
			f[tcp+13] &^= lastOnly
		}
		if at > 0 {
			f[tcp+13] &^= firstOnly
		}
		binary.BigEndian.PutUint16(f[tcp+16:], 0)
		binary.BigEndian.PutUint16(f[tcp+16:], ^responder.Sum(responder.PseudoSum(src, dst, 6, len(f)-tcp), f[tcp:]))
		out = append(out, f)
	}
	return out
}
