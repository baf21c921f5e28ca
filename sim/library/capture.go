package library

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"onevoice/internal/pcap"
	"onevoice/sim"
)

// Bounds of a capture.
const (
	MaxReplayFrames = 1_000_000
	MaxReplayBytes  = 1 << 30
	// MaxReplay is how long a capture may be.
	MaxReplay = MaxDuration - usersCome - lastOrders
)

// Capture is what clients said to one address.
type Capture struct {
	// VIP is the address in the capture that stands for the cluster's.
	VIP    netip.Addr
	Length time.Duration
	// Skipped counts what is not replayed, by why.
	Skipped map[string]int
	frames  []captured
}

// captured is a frame without a VLAN tag, at a time from the first on.
type captured struct {
	at    time.Duration
	frame []byte
}

// Frames is how many there are.
func (c *Capture) Frames() int { return len(c.frames) }

// ReadCapture reads pcap or pcapng and keeps the frames to one IPv4 address: the
// one given or, if none is, the one to which most SYNs go. Errors are sentences.
func ReadCapture(r io.Reader, vip netip.Addr) (*Capture, error) {
	return readCapture(r, vip, MaxReplayFrames, MaxReplayBytes)
}

// readCapture is ReadCapture with bounds.
func readCapture(r io.Reader, vip netip.Addr, most, mostBytes int) (*Capture, error) {
	p, err := pcap.NewReader(r)
	if err != nil {
		return nil, err
	}
	c := &Capture{VIP: vip, Skipped: map[string]int{}}
	syns, bytes := map[netip.Addr]int{}, 0
	for {
		f, err := p.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		data, why := plain(f)
		if why != "" {
			c.Skipped[why]++
			continue
		}
		if bytes += len(data); len(c.frames) == most || bytes > mostBytes {
			return nil, fmt.Errorf("the capture has more than %d frames or %d bytes; take a part of it, such as with editcap -r", most, mostBytes)
		}
		c.frames = append(c.frames, captured{f.At, data})
		if isSYN(data) {
			syns[address(data[ipTarget:])]++
		}
	}
	return c, c.choose(syns)
}

// plain is a copy of a whole frame of IPv4 or ARP without its VLAN tag, or why it
// is none.
func plain(f pcap.Frame) (data []byte, why string) {
	if len(f.Data) < f.Bytes {
		return nil, "cut off by the snapshot length"
	}
	if len(f.Data) < sim.MinFrame || len(f.Data) > sim.MaxFrame {
		return nil, "no Ethernet frame"
	}
	data = slices.Clone(f.Data)
	if binary.BigEndian.Uint16(data[12:]) == etherVLAN && len(data) >= sim.MinFrame+4 {
		data = slices.Delete(data, 12, 16)
	}
	switch binary.BigEndian.Uint16(data[12:]) {
	case etherARP:
		if len(data) < arpEnd {
			return nil, "broken ARP"
		}
	case etherIPv4:
		if len(data) < ipEnd || data[sim.MinFrame]>>4 != 4 || len(data) < sim.MinFrame+int(binary.BigEndian.Uint16(data[sim.MinFrame+2:])) {
			return nil, "broken IPv4"
		}
		if data[sim.MinFrame] != 0x45 || binary.BigEndian.Uint16(data[sim.MinFrame+6:])&0x3fff != 0 {
			return nil, "IPv4 with options, or a fragment"
		}
		if p := data[ipProto]; p != protoTCP && p != protoICMP {
			return nil, "neither TCP nor ICMP, and this version serves no other"
		}
	default:
		return nil, "neither IPv4 nor ARP"
	}
	return data, ""
}

const etherVLAN = 0x8100

func isSYN(f []byte) bool {
	return binary.BigEndian.Uint16(f[12:]) == etherIPv4 && f[ipProto] == protoTCP && len(f) >= ipEnd+20 && f[ipEnd+13]&(sim.SYN|sim.ACK) == sim.SYN
}

// choose keeps the frames to the VIP, and settles which that is.
func (c *Capture) choose(syns map[netip.Addr]int) error {
	if !c.VIP.IsValid() {
		for a, n := range syns {
			if best := syns[c.VIP]; n > best || n == best && a.Less(c.VIP) {
				c.VIP = a
			}
		}
		if !c.VIP.IsValid() {
			return errors.New("nobody opens a TCP connection in this capture; say with --vip to which address it should look")
		}
	}
	before := len(c.frames)
	c.frames = slices.DeleteFunc(c.frames, func(f captured) bool { return !forAddress(f.frame, c.VIP) })
	if n := before - len(c.frames); n > 0 {
		c.Skipped["not to "+c.VIP.String()] = n
	}
	if len(c.frames) == 0 {
		return fmt.Errorf("no frame of the capture is for %v; say with --vip to which address it should look", c.VIP)
	}
	slices.SortStableFunc(c.frames, func(a, b captured) int { return int(a.at - b.at) })
	first := c.frames[0].at
	for i := range c.frames {
		c.frames[i].at -= first
	}
	if c.Length = c.frames[len(c.frames)-1].at; c.Length > MaxReplay {
		return fmt.Errorf("the capture lasts %v, and at most %v can be replayed; take a part of it, such as with editcap -A and -B", c.Length, MaxReplay)
	}
	return nil
}

// forAddress tells whether a frame is a packet to an address or asks for it.
func forAddress(f []byte, a netip.Addr) bool {
	if binary.BigEndian.Uint16(f[12:]) == etherARP {
		return f[arpOperation+1] == 1 && address(f[arpTarget:]) == a
	}
	return address(f[ipTarget:]) == a
}
