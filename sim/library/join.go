package library

import (
	"net/netip"

	"onevoice/sim"
)

// join makes each node's kernel a member of the group whose MAC the cluster's is
// (239 and the VIP's lower bits).
func (r *run) join() error {
	for _, h := range r.nodes() {
		m := sim.NewMember(h.Port(), h.MAC(), h.Address(), netip.Addr{})
		receive := h.Port().Receive
		h.Port().Receive = func(f []byte) {
			if h.Alive() {
				m.Hear(f)
			}
			receive(f)
		}
		if err := m.Join(netip.AddrFrom4([4]byte{239, nodesNet, 0, 2})); err != nil {
			return err
		}
	}
	return nil
}
