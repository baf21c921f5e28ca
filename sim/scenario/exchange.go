package scenario

import (
	"encoding/binary"
	"fmt"
	"time"

	"onevoice/sim"
)

// An exchange is what a user and the backend do over one connection. Both know
// each byte before it comes, so that one that is lost, doubled or another's is
// seen. It begins with a header of the user:
//
//	0      1         4    8              16
//	| kind | nothing | ID | bytes to come |
//
// Then, by its kind: an echo's bytes come back as they are sent, the user ends its
// direction after the last of them, and the backend its own after the last that
// it sent back. Of a push the backend sends the bytes and ends its direction;
// only then the user sends tailBytes and ends its own.
const (
	kindEcho = 'E'
	kindPush = 'P'

	headerBytes = 16
	tailBytes   = 3000
)

// Directions of an exchange's bytes.
const (
	upward uint32 = iota
	downward
)

// content fills p with the bytes from an offset on of a direction of an exchange.
func content(id, direction uint32, offset uint64, p []byte) {
	var word [8]byte
	for i := range p {
		at := offset + uint64(i)
		if i == 0 || at%8 == 0 {
			// SplitMix64 of the exchange, the direction and the word's number.
			x := uint64(id)<<33 ^ uint64(direction)<<32 ^ at/8
			x += 0x9e3779b97f4a7c15
			x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
			x = (x ^ x>>27) * 0x94d049bb133111eb
			binary.LittleEndian.PutUint64(word[:], x^x>>31)
		}
		p[i] = word[at%8]
	}
}

// progress is how much of a direction has come, and whether it was right.
type progress struct {
	id, direction uint32
	got           uint64
	wrong         error
}

// take checks bytes that have come.
func (p *progress) take(b []byte) {
	want := make([]byte, len(b))
	content(p.id, p.direction, p.got, want)
	for i := range b {
		if b[i] != want[i] && p.wrong == nil {
			p.wrong = fmt.Errorf("byte %d is %#x and not %#x", p.got+uint64(i), b[i], want[i])
		}
	}
	p.got += uint64(len(b))
}

// Exchange is what became of one connection of a user.
type Exchange struct {
	User string
	ID   uint32
	Port uint16 // the user's own
	// Push: the backend sends, and the user after it. Else it is an echo.
	Push  bool
	Bytes uint64
	// Opened is when the first SYN left, Connected when the handshake was complete
	// and Ended when the connection had; 0 while that is not so.
	Opened, Connected, Ended time.Duration
	// By is the MAC of the node that served it.
	By sim.MAC
	// Err is why it did not come to its end; nil if every byte came as it was sent
	// and each side heard the other's end.
	Err error

	sent     uint64
	received progress
}

func (x *Exchange) String() string {
	kind := "echo"
	if x.Push {
		kind = "push"
	}
	end := "is under way"
	switch {
	case x.Err != nil:
		end = fmt.Sprintf("ended at %v: %v", x.Ended, x.Err)
	case x.Ended > 0:
		end = fmt.Sprintf("ended at %v", x.Ended)
	}
	return fmt.Sprintf("%s port %d, %s of %d bytes, opened at %v, connected at %v, sent %d, got %d, by %x, %s",
		x.User, x.Port, kind, x.Bytes, x.Opened, x.Connected, x.sent, x.received.got, x.By, end)
}

// header is the exchange's.
func (x *Exchange) header() []byte {
	b := make([]byte, headerBytes)
	b[0] = kindEcho
	if x.Push {
		b[0] = kindPush
	}
	binary.BigEndian.PutUint32(b[4:], x.ID)
	binary.BigEndian.PutUint64(b[8:], x.Bytes)
	return b
}
