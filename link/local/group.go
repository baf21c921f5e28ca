package local

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hardwareRequest is a struct ifreq with a hardware address (netdevice(7)).
type hardwareRequest struct {
	name   [unix.IFNAMSIZ]byte
	family uint16
	data   [22]byte
}

// group adds a group MAC to those that an interface hears, or takes it away.
func group(name string, mac net.HardwareAddr, do uint) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var r hardwareRequest
	copy(r.name[:unix.IFNAMSIZ-1], name)
	copy(r.data[:], mac)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(do), uintptr(unsafe.Pointer(&r))); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
