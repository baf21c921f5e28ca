package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watch notices when an interface is no longer what a device was opened on.
type Watch struct {
	device *Packet
	next   time.Duration
	said   string
}

// watchInterval is how often an interface is looked at.
const watchInterval = 5 * time.Second

// Watch watches the device's interface.
func (d *Packet) Watch() *Watch { return &Watch{device: d} }

// Changed says in words what has changed about the interface since the device
// was opened, "" when nothing. It looks anew every watchInterval, by three calls
// that wait for nobody who configures interfaces (netdevice(7); net/core/dev_ioctl.c
// answers them without the rtnl lock, which a netlink request takes). An interface
// that is gone has not changed: Present tells.
func (w *Watch) Changed(now time.Duration) string {
	if now < w.next {
		return w.said
	}
	w.next = now + watchInterval
	d := w.device
	name, mtu, mac, err := interfaceOf(d.FD(), d.index)
	if err != nil {
		return w.said
	}
	var changes []string
	if mtu != d.mtu {
		changes = append(changes, fmt.Sprintf("its MTU is %d, and was %d", mtu, d.mtu))
	}
	if !bytes.Equal(mac, d.mac) {
		changes = append(changes, fmt.Sprintf("its MAC is %s, and was %s", mac, d.mac))
	}
	if name != d.name {
		changes = append(changes, fmt.Sprintf("its name is %s, and was %s", name, d.name))
	}
	w.said = strings.Join(changes, "; ")
	return w.said
}

// MTU is the named interface's.
func MTU(name string) (int, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("link: interface %s: %w", name, err)
	}
	return ifi.MTU, nil
}

// request is struct ifreq: a name, and what is asked for of it.
type request struct {
	name  [unix.IFNAMSIZ]byte
	value [24]byte
}

// interfaceOf is what the kernel says of an interface, asked through any socket.
func interfaceOf(fd, index int) (name string, mtu int, mac net.HardwareAddr, err error) {
	var r request
	binary.NativeEndian.PutUint32(r.value[:], uint32(index))
	for _, what := range []uintptr{unix.SIOCGIFNAME, unix.SIOCGIFMTU, unix.SIOCGIFHWADDR} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return "", 0, nil, errno
		}
		switch what {
		case unix.SIOCGIFMTU:
			mtu = int(binary.NativeEndian.Uint32(r.value[:]))
		case unix.SIOCGIFHWADDR:
			// A struct sockaddr: the hardware's type, then its address.
			mac = net.HardwareAddr(r.value[2:8])
		}
	}
	return unix.ByteSliceToString(r.name[:]), mtu, mac, nil
}
