package link

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// jumbo lets both ends carry frames that no slot has room for.
func jumbo(t *testing.T) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetMTU(l, 9000); err != nil {
			t.Fatal(err)
		}
	}
}

// numbered is a frame of so many bytes with a number in each of its words.
func numbered(number, size int) []byte {
	b := ethernet(group, own, 0x0800, ipv4To(vip))
	b = append(b, make([]byte, max(size-len(b), 0))...)
	const ip = 34
	for i := ip; i+4 <= len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], uint32(number))
	}
	return b
}

// shared opens a device with a ring.
func shared(t *testing.T, name string) *Packet {
	t.Helper()
	d := open(t, name)
	if d.ring == nil {
		t.Fatal("there is no ring")
	}
	return d
}

// receiveAll receives until nothing is left.
func receiveAll(t *testing.T, d *Packet, each func(f *Frame)) (count int) {
	t.Helper()
	frames := make([]Frame, MaxBatch)
	for {
		n, err := d.Receive(frames)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			each(&frames[i])
		}
		d.Release()
		if count += n; n == 0 {
			return count
		}
	}
}

// Frames that fit a slot and frames that do not stay in their order and whole, more
// than once around the ring.
func TestRingKeepsOrderAndBytes(t *testing.T) {
	inNamespace(t)
	jumbo(t)
	a, b := open(t, "a"), shared(t, "b")
	sizes := []int{60, 1514, 1970, 1974, 5000, 64, 9014, 9014, 1500}
	total := 2*ringSlots + 100
	next := 0
	for sent := 0; sent < total; {
		var batch []Vector
		for range 100 {
			batch = append(batch, Vector{Pieces: [][]byte{numbered(sent, sizes[sent%len(sizes)])}})
			sent++
		}
		send(t, a, batch...)
		receiveAll(t, b, func(f *Frame) {
			if want := numbered(next, sizes[next%len(sizes)]); !bytes.Equal(f.Data, want) {
				t.Fatalf("frame %d has %d bytes, %x…, want %d", next, len(f.Data), f.Data[:min(len(f.Data), 40)], len(want))
			}
			if f.Stamp == 0 || f.Tagged {
				t.Fatalf("frame %d: %+v", next, f)
			}
			next++
		})
	}
	if s := b.Stats(); next < total || s.KernelDropped != 0 || s.Truncated != 0 || int(s.ReceivedFrames) != next {
		t.Errorf("%d of %d received: %+v", next, total, s)
	}
}

// A ring that is full loses what comes last, and counts it.
func TestRingOverflows(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), shared(t, "b")
	const more = 100
	for i := range ringSlots + more {
		send(t, a, Vector{Pieces: [][]byte{numbered(i, 60)}})
	}
	next := 0
	receiveAll(t, b, func(f *Frame) {
		if !bytes.Equal(f.Data, numbered(next, 60)) {
			t.Fatalf("frame %d is %x", next, f.Data)
		}
		next++
	})
	if s := b.Stats(); next < ringSlots-1 || next > ringSlots || int(s.KernelDropped) != ringSlots+more-next {
		t.Errorf("%d of %d received, %+v", next, ringSlots+more, s)
	}
	send(t, a, Vector{Pieces: [][]byte{numbered(7, 60)}})
	if n := receiveAll(t, b, func(*Frame) {}); n != 1 {
		t.Errorf("%d frames after that, want 1", n)
	}
}

// A long frame for which the queue has no room comes without its end. It is counted,
// and no frame is taken for another.
func TestRingWithFullQueue(t *testing.T) {
	inNamespace(t)
	jumbo(t)
	a, b := open(t, "a"), shared(t, "b")
	const total = 3000
	for i := range total {
		send(t, a, Vector{Pieces: [][]byte{numbered(i, 9014-i%2*8900)}})
	}
	last, long := -1, 0
	n := receiveAll(t, b, func(f *Frame) {
		number := int(binary.BigEndian.Uint32(f.Data[34:]))
		if number <= last || !bytes.Equal(f.Data, numbered(number, 9014-number%2*8900)) {
			t.Fatalf("after %d came %d with %d bytes", last, number, len(f.Data))
		}
		last = number
		long += 1 - number%2
	})
	s := b.Stats()
	if s.Truncated == 0 || n+int(s.Truncated+s.KernelDropped) != total || n < total/2 {
		t.Errorf("%d received, %d of them long: %+v", n, long, s)
	}
}

// The device is ready for as long as it has frames that were not given back.
func TestRingIsReadyUntilRelease(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), shared(t, "b")
	send(t, a, Vector{Pieces: [][]byte{numbered(1, 60)}})
	if n := wait(t, b, make([]Frame, MaxBatch)); n != 1 {
		t.Fatalf("%d frames", n)
	}
	ready := func() int {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(b.FD()), Events: unix.POLLIN}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if ready() != 1 {
		t.Error("the kernel does not know of the frame that we hold, and may write over it")
	}
	b.Release()
	if ready() != 0 {
		t.Error("the device is ready after its last frame was given back")
	}
}

// What the kernel says of a short frame stands in its slot.
func TestRingTellsOfOffloads(t *testing.T) {
	inNamespace(t)
	a, b := open(t, "a"), shared(t, "b")
	want := Offload{Partial: true, ChecksumStart: 34, ChecksumOffset: 16}
	send(t, a, Vector{Pieces: [][]byte{numbered(0, 100)}, Offload: want}, Vector{Pieces: [][]byte{numbered(1, 100)}})
	frames := make([]Frame, MaxBatch)
	n := wait(t, b, frames)
	if n != 2 || frames[0].Offload != want || frames[1].Offload != (Offload{}) {
		t.Errorf("%d frames: %+v, then %+v; want %+v, then nothing", n, frames[0].Offload, frames[1].Offload, want)
	}
}
