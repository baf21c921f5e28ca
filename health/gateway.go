package health

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gateway asks whether a router of the LAN is there. A ping's answer says so.
// A router that has never answered one may be one that does not, and is
// believed by the kernel's neighbour state: the ping itself has made the kernel
// ask for its MAC again, and a neighbour that does not answer ARP is FAILED
// within seconds. A router that has answered pings is not believed without one,
// so that its death is seen at once.
type gateway struct {
	addr    netip.Addr
	pings   bool // it has answered a ping
	ping    func(context.Context, netip.Addr, time.Duration) (time.Duration, error)
	resolve func(netip.Addr) (state int, err error)
}

// probe asks once. It is not for concurrent use.
func (g *gateway) probe(ctx context.Context, timeout time.Duration) error {
	_, lost := g.ping(ctx, g.addr, timeout)
	if lost == nil {
		g.pings = true
		return nil
	}
	if g.pings {
		return lost
	}
	state, err := g.resolve(g.addr)
	if err != nil {
		return fmt.Errorf("%w, and its neighbour state is unknown: %w", lost, err)
	}
	const there = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT | unix.NUD_NOARP
	if state&there == 0 {
		return fmt.Errorf("%w, and no answer to ARP", lost)
	}
	return nil
}

// neighbour is the kernel's state of an IPv4 neighbour on any interface
// (NUD_*, rtnetlink(7)), 0 when it has none.
func neighbour(addr netip.Addr) (int, error) {
	list, err := netlink.NeighList(0, unix.AF_INET)
	if err != nil {
		return 0, err
	}
	state := 0
	for _, n := range list {
		if n.IP.Equal(addr.AsSlice()) {
			state |= n.State
		}
	}
	return state, nil
}
