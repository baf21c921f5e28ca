package lab

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The bridge passes on what is for all, and is no host that hears it.
func TestBridgeHasNoStack(t *testing.T) {
	l := buildLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Switch})
	if l.stackless == nil {
		t.Skip("this kernel does not take programs at TCX, or not from us")
	}
	const proto = testEtherType>>8 | testEtherType&0xff<<8
	bridge := -1
	err := l.Do(func() (err error) {
		// A socket of one protocol stands where the stack does.
		bridge, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(bridge)
	all := stations(t, l)
	all["client1"].send(t, frameTo{broadcast(), "hello"})
	if got := all["n1"].heard(t); len(got) != 1 || got[0] != "hello" {
		t.Fatalf("the other host heard %q", got)
	}
	// The bridge would have had it before that host: it keeps the frame itself in
	// the same call that puts the copies onto the cables.
	var b [64]byte
	if n, err := unix.Read(bridge, b[:]); err != unix.EAGAIN {
		t.Errorf("the bridge's own stack got %x, %v", b[:max(n, 0)], err)
	}
}
