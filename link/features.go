package link

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Features are what an interface is, and does for the kernel.
type Features struct {
	// Up: it is switched on. Carrier: there is somebody at the cable's other end.
	Up, Carrier bool
	// HalfDuplex: it cannot send and receive at a time.
	HalfDuplex bool
	// Hardware: a device is behind it.
	Hardware bool
	// LRO, GRO, TSO and GSO are the offloads of these names (ethtool(8)).
	LRO, GRO, TSO, GSO bool
}

// The questions are those of include/uapi/linux/ethtool.h, and the flag is
// ETH_FLAG_LRO; none needs a right.
const (
	ethtoolGetSettings = 0x01
	ethtoolGetTSO      = 0x1e
	ethtoolGetGSO      = 0x23
	ethtoolGetFlags    = 0x25
	ethtoolGetGRO      = 0x2b
	flagLRO            = 1 << 15
	duplexHalf         = 0
)

// FeaturesOf asks the kernel. What an interface cannot do at all counts as switched on,
// but for LRO, for nobody can do anything about it.
func FeaturesOf(name string) (f Features, err error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return f, fmt.Errorf("link: interface %s: %w", name, err)
	}
	a := dev.Attrs()
	f.Up, f.Carrier, f.Hardware = a.RawFlags&unix.IFF_UP != 0, a.RawFlags&unix.IFF_LOWER_UP != 0, a.ParentDev != ""
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return f, fmt.Errorf("link: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	settings := ethtoolSettings{what: ethtoolGetSettings}
	f.HalfDuplex = ethtool(fd, name, unsafe.Pointer(&settings)) && settings.duplex == duplexHalf
	for what, on := range map[uint32]*bool{ethtoolGetGRO: &f.GRO, ethtoolGetTSO: &f.TSO, ethtoolGetGSO: &f.GSO} {
		value := ethtoolValue{what: what}
		*on = !ethtool(fd, name, unsafe.Pointer(&value)) || value.value != 0
	}
	flags := ethtoolValue{what: ethtoolGetFlags}
	f.LRO = ethtool(fd, name, unsafe.Pointer(&flags)) && flags.value&flagLRO != 0
	return f, nil
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ what, value uint32 }

// ethtoolSettings is struct ethtool_cmd.
type ethtoolSettings struct {
	what, supported, advertising uint32
	speed                        uint16
	duplex                       uint8
	_                            [29]byte
}

// ethtool asks for what stands at the beginning of a question, whose address goes into
// struct ifreq.
func ethtool(fd int, name string, question unsafe.Pointer) bool {
	var r struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	r.data = question
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	return errno == 0
}
