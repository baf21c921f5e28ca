package lab

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcxDrop is TCX_DROP of include/uapi/linux/bpf.h.
const tcxDrop = 2

// withoutStack keeps the bridge's own IP stack from the frames that it passes on. A
// bridge of Linux takes every frame to a group or to all for itself as well
// (br_handle_frame_finish in net/bridge/br_input.c), and walks it to a route that is
// not there: a microsecond for each frame to a cluster MAC, which no switch takes. It
// runs in the LAN's namespace. Where the kernel does not let us, the LAN is the same
// and slower, and there is nothing to close.
func withoutStack(bridge string) (io.Closer, error) {
	dev, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, err
	}
	drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "lab_switch", Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tcxDrop), asm.Return()},
	})
	if mayLack(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("program for the bridge: %w", err)
	}
	defer drop.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Index, Program: drop, Attach: ebpf.AttachTCXIngress})
	if mayLack(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("attach to the bridge: %w", err)
	}
	return l, nil
}

// mayLack reports an error that says that this kernel cannot, or that we may not.
func mayLack(err error) bool {
	return errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM)
}
