package link

import (
	"net"
	"time"
)

// Frame is one received frame.
type Frame struct {
	// Data is the frame from the Ethernet header on. It belongs to the device
	// and is valid until the next call of Receive or Release.
	Data []byte
	// Tagged says that the frame carried the tag of a VLAN, which the kernel has
	// taken out of Data; TCI is that tag. See VLAN for what it says there.
	Tagged bool
	TCI    uint16
	// Offload is what the kernel says about checksums and segmentation.
	Offload Offload
	// Stamp is when the kernel took the frame from the interface, on
	// CLOCK_REALTIME since its epoch; 0 when that is not known.
	Stamp time.Duration
}

// Vector is one frame to send, in the pieces in which it lies in memory.
type Vector struct {
	// Pieces together are the frame from the Ethernet header on.
	Pieces [][]byte
	// Offload asks the kernel to finish the checksum or to cut the frame.
	Offload Offload
}

// Device receives and sends whole frames. It never blocks. Receive and Send
// are called by one goroutine, the owner of the event loop.
type Device interface {
	// Receive fills frames and reports how many it filled; 0 and no error
	// when nothing is there. Data of the frames is valid until the next call, or
	// Release.
	Receive(frames []Frame) (int, error)
	// Release gives the frames of the last Receive back. To wait on FD without it is
	// no fault, but may end the wait at once.
	Release()
	// Send sends the vectors in order. A frame that the kernel refuses is
	// dropped and counted, as a full transmit queue would drop it, and the
	// rest is still sent; the error is that of the last refused frame.
	Send(vectors []Vector) error
	// FD is the descriptor to wait on for frames to receive.
	FD() int
	// HardwareAddr is the interface's own MAC.
	HardwareAddr() net.HardwareAddr
	// MTU is the interface's largest packet in bytes, Ethernet header not
	// included.
	MTU() int
	// Present reports whether the interface still exists. One that is only down
	// does; the device receives again once it is up.
	Present() bool
	// Stats reports the counters since the device was opened.
	Stats() Stats
	// Close closes the device and ends its group memberships.
	Close() error
}

// Stats are a device's counters since it was opened.
type Stats struct {
	ReceivedFrames uint64 `json:"received_frames"`
	ReceiveCalls   uint64 `json:"receive_calls"`
	SentFrames     uint64 `json:"sent_frames"`
	SendCalls      uint64 `json:"send_calls"`
	// SendRefused counts frames that the kernel did not take.
	SendRefused uint64 `json:"send_refused"`
	// KernelDropped counts frames that the kernel dropped because the socket's
	// queue or its ring was full.
	KernelDropped uint64 `json:"kernel_dropped"`
	// Truncated counts frames that came without their end: longer than
	// MaxFrameBytes, or than a slot of the ring when the queue was full.
	Truncated uint64 `json:"truncated"`
}

// Bounds of a device.
const (
	// MaxFrameBytes is the largest frame taken in: a super-frame of 64 KiB
	// with its Ethernet header, and room for a header not yet stripped.
	MaxFrameBytes = 64<<10 + 64
	// MaxBatch is how many frames are received or sent by one system call.
	// Small batches were measured to halve the rate at 1,500 bytes.
	MaxBatch = 64
	// MaxPieces is how many pieces of one vector are handed to the kernel;
	// a frame in more pieces is copied into one.
	MaxPieces = 48
)
