package stack

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Secrets of netstack, in bytes.
const (
	nonceBytes  = 2 * sha1.BlockSize
	secretBytes = 16
)

// overheard is netstack's source of secrets. It remembers what is read of it while
// the stack is being made, so that what follows from the secrets can be told without
// asking netstack.
type overheard struct {
	io.Reader
	listening bool
	got       []byte
}

// Read implements io.Reader.
func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if o.listening {
		o.got = append(o.got, p[:n]...)
	}
	return n, err
}

// during returns what is read while do runs.
func (o *overheard) during(do func()) []byte {
	o.listening, o.got = true, nil
	do()
	o.listening = false
	return o.got
}

// cookieKey is what a listener makes its SYN cookies from, and nil where that is not
// known.
type cookieKey []byte

// newCookieKey takes what a listener has read of the source of secrets: its two nonces
// (newListenContext in transport/tcp/accept.go of the netstack that go.mod names).
func newCookieKey(read []byte) cookieKey {
	if len(read) != nonceBytes {
		return nil
	}
	return cookieKey(read)
}

// Parts of a cookie (tsOffset, hashMask and maxTSDiff, at the same place): the upper
// 8 bits have the time in units of 64 seconds, of which three are good.
const (
	cookieTimeShift = 24
	cookieHashMask  = 1<<cookieTimeShift - 1
	cookieAge       = 2
)

// cookieSize is the segment size that a cookie tells, of a client that takes so many
// bytes: the place of the greatest below it in mssTable.
func cookieSize(most uint16) uint32 {
	switch {
	case most >= 1460:
		return 3
	case most >= 1440:
		return 2
	case most >= 1300:
		return 1
	}
	return 0 // 536
}

// cookieSizes is how many there are.
const cookieSizes = 4

// hash is cookieHash: over the service's port, the client's, a time, a nonce and both
// addresses.
func (k cookieKey) hash(p *opening, time uint32, nonce int) uint32 {
	var room [8 + sha1.BlockSize + 2*header.IPv6AddressSize]byte
	b := append(append(room[:0], p.toPort...), p.fromPort...)
	b = binary.BigEndian.AppendUint32(b, time)
	b = append(b, k[nonce*sha1.BlockSize:(nonce+1)*sha1.BlockSize]...)
	b = append(append(b, p.to...), p.from...)
	sum := sha1.Sum(b)
	return binary.BigEndian.Uint32(sum[:])
}

// cookie is createCookie: the number of the SYN-ACK that answers a SYN at a time, in
// seconds.
func (k cookieKey) cookie(p *opening, seconds uint32, most uint16) uint32 {
	time := seconds >> 6 & 0xff
	return k.hash(p, 0, 0) + p.number + time<<cookieTimeShift + (k.hash(p, time, 1)+cookieSize(most))&cookieHashMask
}

// made reports whether a number is a cookie of the listener's for the SYN, as
// isCookieValid does.
func (k cookieKey) made(p *opening, seconds, number uint32) bool {
	rest := number - k.hash(p, 0, 0) - p.number
	time := rest >> cookieTimeShift
	return (seconds>>6-time)&0xff <= cookieAge && (rest-k.hash(p, time, 1))&cookieHashMask < cookieSizes
}

// stampKey is what netstack's time stamps begin from, nil where that is not known.
type stampKey []byte

// newStampKey takes what TCP has read of the source of secrets: its secret for
// sequence numbers, and the one for time stamps (newProtocol in
// transport/tcp/protocol.go).
func newStampKey(read []byte) stampKey {
	if len(read) != 2*secretBytes {
		return nil
	}
	return stampKey(read[secretBytes:])
}

// stamp is what a segment to the client says at a time, in milliseconds: tsOffset.
func (k stampKey) stamp(p *opening, millis uint32) uint32 {
	var room [secretBytes + 2*header.IPv6AddressSize]byte
	b := append(append(append(room[:0], k...), p.to...), p.from...)
	sum := sha256.Sum256(b)
	return millis + binary.LittleEndian.Uint32(sum[:])
}
