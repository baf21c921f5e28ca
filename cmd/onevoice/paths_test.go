package main

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"onevoice/internal/netns"
)

// block lets no frame to a MAC that ends so into the LAN's ports.
func block(t *testing.T, lan *netns.NS, end uint16, ports ...string) {
	t.Helper()
	const drop, next = 2, -1
	err := lan.Do(func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadAbs(4, asm.Half),
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R0, drop),
			asm.JEq.Imm(asm.R1, int32(end), "end"),
			asm.Mov.Imm(asm.R0, next),
			asm.Return().WithSymbol("end"),
		}})
		if err != nil {
			return err
		}
		defer p.Close()
		for _, name := range ports {
			port, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			l, err := link.AttachTCX(link.TCXOptions{Interface: port.Index, Program: p, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return nil
	})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		t.Skipf("the kernel cannot block frames for us: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestR6OneMACIsNotFlooded: a switch that floods one cluster MAC and not another
// silences the VIPs on that other, and nothing else.
func TestR6OneMACIsNotFlooded(t *testing.T) {
	hosts := map[string]*host{"10.77.0.11": newHost(t), "10.77.0.12": newHost(t), "10.77.0.13": newHost(t), "10.77.0.101": newHost(t)}
	client := hosts["10.77.0.101"]
	lan := joinLAN(t, hosts)
	delete(hosts, "10.77.0.101")
	block(t, lan, 0x0003, "p11", "p12", "p13", "p101")
	var logs []*logged
	for _, h := range hosts {
		h.ownState()
		h.edit(`, "10.77.0.14"]`, "]", "\n[[service]]\nname = \"ssh\"", "\n[[vip]]\naddress = \"10.77.0.3/24\"\n[[service]]\nname = \"ssh\"")
		logs = append(logs, h.begin("run"))
	}
	for _, l := range logs {
		l.until("answering: this node holds a lease")
	}
	dial := func(to string) error {
		var answer error
		if err := client.Do(func() error {
			c, err := net.DialTimeout("tcp4", to, 3*time.Second)
			if answer = err; err == nil {
				c.Close()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	// No backend listens: the owner of the client's bucket resets, if not at once
	// then after its SYN-ACK.
	answered := func(err error) bool {
		return err == nil || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET)
	}
	if err := dial(testVIP + ":22"); !answered(err) {
		t.Errorf("the VIP that is heard: %v, want an answer by its owner", err)
	}
	if err := dial("10.77.0.3:22"); answered(err) {
		t.Errorf("the VIP that nobody can hear: %v, want silence", err)
	}
	for _, l := range logs {
		l.end()
	}
}
