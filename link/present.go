package link

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Present implements Device. It waits for nobody who configures interfaces.
func (d *Packet) Present() bool {
	_, _, _, err := interfaceOf(d.fd, d.index)
	return !errors.Is(err, unix.ENODEV)
}

// Exists reports whether there is an interface of that name, by a call that waits
// for nobody who configures interfaces (SIOCGIFINDEX of netdevice(7)).
func Exists(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var r request
	if copy(r.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return false, nil
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&r)))
	switch errno {
	case 0:
		return binary.NativeEndian.Uint32(r.value[:]) != 0, nil
	case unix.ENODEV:
		return false, nil
	}
	return false, os.NewSyscallError("ioctl SIOCGIFINDEX", errno)
}
