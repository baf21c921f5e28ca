package sealed

import "encoding/binary"

// Version is the version of the layout that this program speaks.
const Version = 1

// Bounds of a datagram, in bytes.
const (
	// MaxDatagram fits an Ethernet frame of 1,500 bytes with an IPv6 and a UDP
	// header.
	MaxDatagram = 1452
	// Overhead is what sealing adds.
	Overhead = headerBytes + tagBytes
	// MaxPayload is what one datagram carries.
	MaxPayload = MaxDatagram - Overhead
)

const (
	headerBytes = 57
	tagBytes    = 16
	nonceAt     = 45
	versionAt   = 2
	magic0      = '1'
	magic1      = 'v'
)

// form is what the layer itself does with a datagram.
type form byte

const (
	formWhole     form = 1
	formFragment  form = 2
	formChallenge form = 3
	formEcho      form = 4
)

// UUID names a cluster; it is made at bootstrap. All zero is a blank node's.
type UUID [16]byte

// Salt names one boot of one sender. It must be random.
type Salt [16]byte

// keyTag tells cluster keys apart without telling anything of them, and boots
// that have the key from those that do not.
type keyTag [4]byte

type header struct {
	form    form
	kind    byte
	from    uint64
	salt    Salt
	uuid    UUID
	tag     keyTag
	counter uint64
}

func (h *header) appendTo(b []byte) []byte {
	b = append(b, magic0, magic1, Version, byte(h.form), h.kind)
	b = binary.BigEndian.AppendUint64(b, h.from)
	b = append(b, h.salt[:]...)
	b = append(b, h.uuid[:]...)
	b = append(b, h.tag[:]...)
	return binary.BigEndian.AppendUint64(b, h.counter)
}

// parse reads a header. The version is returned where there is one.
func parse(b []byte) (h header, version byte, v Verdict) {
	if len(b) > versionAt && (b[0] != magic0 || b[1] != magic1) {
		return h, 0, Alien
	}
	if len(b) > versionAt && b[versionAt] != Version {
		return h, b[versionAt], WrongVersion
	}
	if len(b) < Overhead {
		return h, 0, Short
	}
	if len(b) > MaxDatagram {
		return h, Version, Long
	}
	h.form, h.kind = form(b[3]), b[4]
	h.from = binary.BigEndian.Uint64(b[5:])
	copy(h.salt[:], b[13:])
	copy(h.uuid[:], b[29:])
	copy(h.tag[:], b[nonceAt:])
	h.counter = binary.BigEndian.Uint64(b[49:])
	if h.form < formWhole || h.form > formEcho {
		return h, Version, BadForm
	}
	return h, Version, OK
}

// KindOf is the kind that a datagram with a message claims. What is none, or was
// made by this layer for itself, has no kind: Open judges it.
func KindOf(datagram []byte) (kind byte, ok bool) {
	h, _, v := parse(datagram)
	return h.kind, v == OK && (h.form == formWhole || h.form == formFragment)
}
