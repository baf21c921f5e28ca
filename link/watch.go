package link

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Watch notices when an interface is no longer what a device was opened on.
type Watch struct {
	index int
	name  string
	mtu   int
	mac   net.HardwareAddr
	next  time.Duration
	said  string
}

// watchInterval is how often an interface is looked at.
const watchInterval = 5 * time.Second

// Watch watches the device's interface.
func (d *Packet) Watch() *Watch {
	return &Watch{index: d.index, name: d.name, mtu: d.mtu, mac: d.mac}
}

// Changed says in words what has changed about the interface since the device
// was opened, "" when nothing. It looks anew every watchInterval, by one request
// to the kernel. An interface that is gone has not changed: Present tells.
func (w *Watch) Changed(now time.Duration) string {
	if now < w.next {
		return w.said
	}
	w.next = now + watchInterval
	l, err := netlink.LinkByIndex(w.index)
	if err != nil {
		return w.said
	}
	var changes []string
	a := l.Attrs()
	if a.MTU != w.mtu {
		changes = append(changes, fmt.Sprintf("its MTU is %d, and was %d", a.MTU, w.mtu))
	}
	if !bytes.Equal(a.HardwareAddr, w.mac) {
		changes = append(changes, fmt.Sprintf("its MAC is %s, and was %s", a.HardwareAddr, w.mac))
	}
	if a.Name != w.name {
		changes = append(changes, fmt.Sprintf("its name is %s, and was %s", a.Name, w.name))
	}
	w.said = strings.Join(changes, "; ")
	return w.said
}
