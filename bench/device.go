package bench

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hostDevice is the interface of every host of a lab.
const hostDevice = "eth0"

// interfaceRequest is struct ifreq of netdevice(7): a name and 24 bytes for an
// address or a pointer.
type interfaceRequest struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

// deviceCall is an ioctl on the interface of the thread's namespace.
func deviceCall(what string, call uintptr, fill func(*interfaceRequest)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var r interfaceRequest
	copy(r.name[:], hostDevice)
	fill(&r)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), call, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("%s of %s: %w", what, hostDevice, errno)
	}
	return nil
}

// hearGroup makes the interface hear a group MAC, or no longer, as `ip maddr`
// does: the address is that of a sockaddr with the family AF_UNSPEC, 0.
func hearGroup(mac net.HardwareAddr, hear bool) error {
	call := uintptr(unix.SIOCADDMULTI)
	if !hear {
		call = unix.SIOCDELMULTI
	}
	const familyBytes = 2
	return deviceCall("group address", call, func(r *interfaceRequest) { copy(r.data[familyBytes:], mac) })
}

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

// Commands of ethtool that set one offload each (linux/ethtool.h).
const (
	ethtoolSTSO = 0x1f
	ethtoolSGSO = 0x24
	ethtoolSGRO = 0x2c
)

// setOffloads switches offloads of the interface on or off, as `ethtool -K eth0
// tso off gso off gro off` does.
func setOffloads(on bool, commands ...uint32) error {
	value := ethtoolValue{}
	if on {
		value.data = 1
	}
	for _, value.cmd = range commands {
		err := deviceCall("offloads", unix.SIOCETHTOOL, func(r *interfaceRequest) {
			*(*unsafe.Pointer)(unsafe.Pointer(&r.data)) = unsafe.Pointer(&value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
