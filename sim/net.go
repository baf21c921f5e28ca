package sim

import (
	"bytes"
	"strconv"
	"time"
)

// MaxDatagram is the longest payload of UDP over IPv4, in bytes.
const MaxDatagram = 65507

// Net carries datagrams from host to host beside the LAN: a management network.
// Each direction of each pair keeps its own order and has its own rate.
type Net struct {
	Faults
	// Default is how every pair is; a pair asked for by Between has its own.
	Default Link

	w     *World
	hosts []*NetHost
}

// NetHost is one host's end of a Net.
type NetHost struct {
	Name string
	// Index is the host's number on its Net, for Send and Faults.
	Index int
	// Receive gets each datagram that arrives; the bytes are the receiver's
	// own. nil: nobody is there. It may be set at any time.
	Receive func(from int, data []byte)
	// Backlog bounds the datagrams that wait while the host is paused.
	Backlog int

	inbox inbox
}

// NewNet makes a Net without hosts.
func (w *World) NewNet() *Net { return &Net{Faults: newFaults(), w: w} }

// Attach adds a host. While its clock is paused, datagrams wait for it; with a
// nil clock they never do.
func (n *Net) Attach(name string, host *Clock, receive func(from int, data []byte)) *NetHost {
	h := &NetHost{Name: name, Index: n.addPort(), Receive: receive, Backlog: DefaultBacklog, inbox: inbox{host: host}}
	n.hosts = append(n.hosts, h)
	return h
}

// Hosts are all hosts, by their Index.
func (n *Net) Hosts() []*NetHost { return n.hosts }

// Between is the link from one host to another, which begins as a copy of
// Default.
func (n *Net) Between(from, to int) *Link {
	p := n.between(from, to)
	if p.link == nil {
		l := n.Default
		p.link = &l
	}
	return p.link
}

// Heal ends every fault of the Net, those of links included. Delays and rates
// stay.
func (n *Net) Heal() {
	n.Faults.Heal()
	n.Default.Heal()
}

// Send sends a datagram from one host to another, or to itself. The bytes are
// copied and stay the caller's.
func (n *Net) Send(from, to int, data []byte) {
	pair := n.between(from, to)
	n.count(from, Sent)
	n.w.record(n.hosts[from].Name, ">", data, func(b []byte) string {
		return n.hosts[to].Name + " " + strconv.Itoa(len(b)) + " bytes"
	})
	if len(data) > MaxDatagram {
		n.count(from, DroppedSize)
		return
	}
	if !n.mayLeave(from) {
		return
	}
	if _, ok := n.mayCross(from, to); !ok {
		return
	}
	link := pair.link
	if link == nil {
		link = &n.Default
	}
	n.w.carry(link, &pair.wire, bytes.Clone(data), 0, n.countPair(pair, to), func(b []byte) { n.arrive(from, to, b) })
}

func (n *Net) arrive(from, to int, data []byte) {
	if !n.mayArrive(to) {
		return
	}
	h := n.hosts[to]
	if !h.inbox.put(n.w.now, h.Backlog, func(time.Duration) { n.deliver(from, h, data) }) {
		n.count(to, DroppedBacklog)
	}
}

func (n *Net) deliver(from int, h *NetHost, data []byte) {
	if h.Receive == nil {
		n.count(h.Index, DroppedNoHost)
		return
	}
	n.count(h.Index, Delivered)
	n.w.record(h.Name, "<", data, func(b []byte) string {
		return n.hosts[from].Name + " " + strconv.Itoa(len(b)) + " bytes"
	})
	h.Receive(from, data)
}
