package scenario

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/control"
	"onevoice/hashing"
	"onevoice/node"
)

// The lister of a control process is the daemon's own, control.Lister, with the
// management network for its transport. What it asks and tells the worker takes the time
// that a message between processes takes, each way.

// Kinds of datagrams of the management network, their first byte.
const (
	kindMember = iota
	kindBlank
	kindLists
)

// messageTakes is how long a message between control process and worker takes at most.
const messageTakes = 2 * time.Millisecond

// newLister makes that of a control process that begins.
func (h *Host) newLister() *control.Lister {
	boots := h.boots
	var names []string
	for _, s := range h.c.services {
		names = append(names, s.Name)
	}
	return control.NewLister(control.ListerConfig{
		Core: h.core, Servers: flowServers{h, h.page}, ServiceNames: names, Key: listKey(), Send: h.sendLists,
		Do: func(job func()) {
			h.workers.After(max(h.soon(messageTakes), h.worker.slow-h.workers.Now()), job)
		},
		Post: func(fn func(now time.Duration)) bool {
			h.c.World.After(h.soon(messageTakes), func() {
				h.clock.Do(func() {
					if h.up && h.boots == boots {
						fn(h.clock.Now())
						h.list()
					}
				})
			})
			return true
		},
	})
}

// listKey is the key of the lists' hashes.
func listKey() hashing.Key { return hashing.Key{2} }

// list lets the lister have its turn.
func (h *Host) list() {
	if h.lister != nil && h.failed == nil {
		h.lister.Turn(h.clock.Now())
	}
}

// sendLists sends a message of lists to a member. Who sent it is sealed, so that it can be
// believed.
func (h *Host) sendLists(_ time.Duration, to uint64, message []byte) error {
	b := binary.BigEndian.AppendUint64([]byte{kindLists}, h.id)
	for _, o := range h.c.Hosts {
		if o != h && o.id == to {
			h.c.Net.Send(h.Index, o.Index, append(b, message...))
		}
	}
	return nil
}

// received is a datagram of the management network.
func (h *Host) received(from *Host, data []byte) {
	if data[0] != kindLists {
		h.step(cluster.Received{From: from.addr, Blank: data[0] == kindBlank, Data: data[1:]})
		return
	}
	if h.up && h.lister != nil {
		h.lister.Take(h.clock.Now(), binary.BigEndian.Uint64(data[1:]), data[9:])
		h.list()
	}
}

// flowServers are the worker as the lister of a control process sees it, which is known by
// its page: control.FlowServers, as control.Guest answers for the direct path.
type flowServers struct {
	h    *Host
	page *page
}

// errNoWorker says that no worker has taken up the page, and rights of it.
var errNoWorker = errors.New("scenario: there is no worker to ask")

// asked is the worker, with what it has in force: it looks at its page before a message.
func (s flowServers) asked() (*direct, error) {
	w := &s.h.worker
	if d, ok := w.gate.(*direct); ok && w.alive && w.page == s.page {
		s.h.take(s.page)
		if d.force(); d.rights != nil {
			return d, nil
		}
	}
	return nil, errNoWorker
}

// Held implements control.FlowServers. The VIP's own service, the first, has no flows.
func (s flowServers) Held(wanted [][4]uint64) (held control.HeldFlows, err error) {
	d, err := s.asked()
	if err != nil {
		return held, err
	}
	held = control.HeldFlows{Generation: d.rights.Generation, All: slices.Repeat([]bool{true}, len(wanted)), Services: make([][]node.Held, len(wanted))}
	var direct []node.Bitmap
	for _, b := range wanted[1:] {
		direct = append(direct, node.Bitmap(b))
	}
	generation, err := d.path.Held(direct, held.Services[1:])
	held.Generation = min(held.Generation, generation)
	return held, err
}

// SetFlowLists implements control.FlowServers.
func (s flowServers) SetFlowLists(generation uint64, lists []control.FlowList) error {
	d, err := s.asked()
	if err != nil || d.rights.Generation != generation {
		return err
	}
	var told []control.FlowList
	for _, l := range lists {
		if l.Service--; l.Service >= 0 {
			told = append(told, l)
		}
	}
	d.path.SetFlowLists(told)
	d.after(s.h.soon(wakeTakes), d.path.Heard)
	return nil
}
