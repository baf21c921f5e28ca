package link

import "encoding/binary"

// Tags of IEEE 802.1Q §9.6: a frame's type says that there is one, and its last 12
// bits which VLAN it means. 0 means none, and 4095 is nobody's.
const (
	etherTypeVLAN = 0x8100
	tagBytes      = 4
	vlanMask      = 0x0fff
	// MaxVLAN is the last VLAN that there can be.
	MaxVLAN = 4094
)

// VLAN is a device's part in one VLAN: what is sent through it carries the tag, and
// of what is received only frames with that tag seem to have none. The interface
// itself need not know of the VLAN.
type VLAN struct {
	Device
	id      uint16
	tag     [tagBytes]byte
	vectors []Vector
	pieces  [][]byte
}

var _ Device = (*VLAN)(nil)

// InVLAN gives a device's part in a VLAN, from 1 to MaxVLAN.
func InVLAN(d Device, id uint16) *VLAN {
	v := &VLAN{Device: d, id: id}
	binary.BigEndian.PutUint16(v.tag[:], etherTypeVLAN)
	binary.BigEndian.PutUint16(v.tag[2:], id)
	return v
}

// Receive implements Device. Frames that are not of the VLAN, untagged ones among
// them, come as tagged ones.
func (v *VLAN) Receive(frames []Frame) (int, error) {
	n, err := v.Device.Receive(frames)
	for i := range n {
		frames[i].Tagged = !frames[i].Tagged || frames[i].TCI&vlanMask != v.id
	}
	return n, err
}

// Send implements Device. The tag lies behind the two addresses.
func (v *VLAN) Send(vectors []Vector) error {
	const addresses = 12
	v.vectors, v.pieces = v.vectors[:0], v.pieces[:0]
	need := 0
	for i := range vectors {
		need += len(vectors[i].Pieces) + 2
	}
	if cap(v.pieces) < need {
		v.pieces = make([][]byte, 0, need)
	}
	for i := range vectors {
		from, pieces := len(v.pieces), vectors[i].Pieces
		if len(pieces) > 0 && len(pieces[0]) < addresses {
			pieces = [][]byte{join(pieces)}
		}
		if len(pieces) == 0 || len(pieces[0]) < addresses {
			continue // no frame
		}
		v.pieces = append(v.pieces, pieces[0][:addresses], v.tag[:], pieces[0][addresses:])
		v.pieces = append(v.pieces, pieces[1:]...)
		v.vectors = append(v.vectors, Vector{Pieces: v.pieces[from:len(v.pieces):len(v.pieces)], Offload: vectors[i].Offload.behindTag()})
	}
	err := v.Device.Send(v.vectors)
	// What was sent is its owner's again.
	clear(v.pieces)
	clear(v.vectors)
	return err
}

// behindTag is what counts from a frame's beginning, of a frame with a tag.
func (o Offload) behindTag() Offload {
	if o.Partial {
		o.ChecksumStart += tagBytes
	}
	if o.Segmentation != SegmentationNone {
		o.HeaderBytes += tagBytes
	}
	return o
}
