package link

import "encoding/binary"

// Offload is the virtio-net header of a frame (struct virtio_net_hdr in
// include/uapi/linux/virtio_net.h), in host terms.
type Offload struct {
	// Partial: the transport checksum field holds only the pseudo-header's
	// sum; the checksum runs from ChecksumStart and belongs at ChecksumStart +
	// ChecksumOffset. A received frame like this was made on this machine or
	// vouched for by the hypervisor, and has not been on a wire since.
	Partial bool
	// Validated: the kernel or the device has checked the transport checksum.
	Validated bool
	// Segmentation is the kind of super-frame, SegmentationNone for others.
	Segmentation uint8
	// HeaderBytes is the length of all headers of a super-frame, and
	// SegmentBytes the payload of each segment cut from it.
	HeaderBytes  uint16
	SegmentBytes uint16
	// ChecksumStart is counted from the start of the Ethernet header.
	ChecksumStart  uint16
	ChecksumOffset uint16
}

// Kinds of segmentation, VIRTIO_NET_HDR_GSO_* of the kernel's header.
const (
	SegmentationNone  = 0
	SegmentationTCPv4 = 1
	SegmentationUDP   = 3
	SegmentationTCPv6 = 4
	SegmentationUDPL4 = 5
	// segmentationECN is or-ed to a TCP kind when the first segment carries CWR.
	segmentationECN = 0x80
)

// Flags of the header.
const (
	flagNeedsChecksum = 1
	flagDataValid     = 2
)

// offloadBytes is the length of the header: PACKET_VNET_HDR uses the form
// without num_buffers.
//
//	0      1      2          4          6            8              10
//	| flags | gso  | hdr_len  | gso_size | csum_start | csum_offset  |
const offloadBytes = 10

// decodeOffload reads a header in the byte order of this machine, which is
// little-endian on every machine Go supports AF_PACKET offloads on in practice;
// binary.NativeEndian keeps it right on the others.
func decodeOffload(b []byte) Offload {
	return Offload{
		Partial:        b[0]&flagNeedsChecksum != 0,
		Validated:      b[0]&flagDataValid != 0,
		Segmentation:   b[1] &^ segmentationECN,
		HeaderBytes:    binary.NativeEndian.Uint16(b[2:]),
		SegmentBytes:   binary.NativeEndian.Uint16(b[4:]),
		ChecksumStart:  binary.NativeEndian.Uint16(b[6:]),
		ChecksumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// encode writes the header for a frame to send.
func (o *Offload) encode(b []byte) {
	clear(b[:offloadBytes])
	if o.Partial {
		b[0] = flagNeedsChecksum
		binary.NativeEndian.PutUint16(b[6:], o.ChecksumStart)
		binary.NativeEndian.PutUint16(b[8:], o.ChecksumOffset)
	}
	if o.Segmentation != SegmentationNone {
		b[1] = o.Segmentation
		binary.NativeEndian.PutUint16(b[2:], o.HeaderBytes)
		binary.NativeEndian.PutUint16(b[4:], o.SegmentBytes)
	}
}
