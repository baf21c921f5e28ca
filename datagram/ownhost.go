package datagram

import (
	"net/netip"
	"time"

	"onevoice/hashing"
	"onevoice/proxy"
)

// hostSocket is where this host's own datagrams to a port of a service come in. Their
// frames go out and never come in, so that no node would hear those whose bucket this
// host owns; routes lead them to loopback instead, and this host's own service answers.
type hostSocket struct {
	socket  *proxy.HostDatagrams
	service int
	at      netip.AddrPort
}

// hostMark tells the tokens of host sockets from those of flows.
const hostMark = 1 << 61

// ServeHost takes this host's own datagrams to a port of a service. The socket is the
// relay's from then on, also when there is an error.
func (r *Relay) ServeHost(service int, at netip.AddrPort, socket *proxy.HostDatagrams) error {
	if err := r.poller.AddLevel(socket.FD(), tokenMark|hostMark|uint64(len(r.hosts))); err != nil {
		socket.Close()
		return err
	}
	r.hosts = append(r.hosts, hostSocket{socket, service, at})
	return nil
}

// LeaveHost leaves this host's own datagrams to another worker. What was taken is
// answered no more; who asked asks again.
func (r *Relay) LeaveHost() {
	for i := range r.hosts {
		r.hosts[i].socket.Close()
	}
}

// readyHost takes in what this host has sent.
func (r *Relay) readyHost(now time.Duration, i uint64) {
	if i >= uint64(len(r.hosts)) {
		return
	}
	h := &r.hosts[i]
	var from [proxy.MaxDatagrams]netip.AddrPort
	n, err := h.socket.Receive(r.batch, &from)
	if err != nil {
		return // nothing has come
	}
	for k := range n {
		f := hashing.Flow{Src: from[k].Addr(), SrcPort: from[k].Port(), Dst: h.at.Addr(), DstPort: h.at.Port(), Proto: protoUDP}
		if o := r.Take(now, h.service, &f); o != Goes && o != Begins {
			continue
		}
		id, _ := r.table.Find(&f)
		s := &r.sockets[id.slot()]
		s.host = int32(i) + 1
		if s.local != nil || r.open(now, id) {
			r.sendUp(now, id, s, r.batch.Datagram(k))
		}
	}
}

// answerHost gives this host an answer.
func (r *Relay) answerHost(h *hostSocket, to netip.AddrPort, p []byte) {
	if err := h.socket.Send(p, to); err != nil {
		r.counters.LostDown++
	}
}
