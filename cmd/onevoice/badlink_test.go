package main

import (
	"context"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/admin"
)

// A queue that runs over loses whole frames, each of them counted, and nothing of
// those that are left.
func TestQueueRunsOver(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	w := newWire(p)
	before, err := admin.Ask(context.Background(), p.socket(), admin.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	worker := before.Workers[0].Process.PID
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// More than 16 MiB take, as the kernel counts what a frame holds.
	const sent = 40_000
	unknown := w.packet(99, nil, []byte{0, 99, 0, 53, 0, 12, 0, 0, 'f', 'u', 'l', 'l'})
	batch := make([][]byte, 64)
	for i := range batch {
		batch[i] = unknown
	}
	for range sent / len(batch) {
		w.send(batch...)
	}
	if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.session()
	w.settled()
	after, err := admin.Ask(context.Background(), p.socket(), admin.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	judged, dropped := after.Verdicts["no-service"]-before.Verdicts["no-service"], after.Device.KernelDropped
	// A few of what the client's own kernel says may be among those that were dropped.
	const others = 100
	if dropped == 0 || judged == 0 || judged+dropped < sent || judged+dropped > sent+others || after.Device.Truncated != 0 {
		t.Errorf("of %d frames %d were judged and %d dropped, %d cut off", sent, judged, dropped, after.Device.Truncated)
	}
	if _, text := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start); !strings.Contains(text, "QUEUE    ") {
		t.Errorf("status does not tell of it:\n%s", text)
	}
}

// link changes an interface of the node's.
func (p *pair) link(name string, change func(netlink.Link) error) {
	p.t.Helper()
	err := p.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return change(l)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// untilWarned waits until the status has a warning, or has none any more.
func (p *pair) untilWarned(of string, want bool) {
	p.t.Helper()
	for begun := time.Now(); strings.Contains(strings.Join(p.status().Warnings, "\n"), of) != want; {
		if time.Since(begun) > patience {
			p.t.Fatalf("warnings %q: %q is among them: %v", p.status().Warnings, of, !want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// An interface that goes down and comes back, or gets another MTU or MAC, costs no
// session, and status says what has changed.
func TestInterfaceChangesUnderASession(t *testing.T) {
	if testing.Short() {
		t.Skip("an interface is looked at every few seconds")
	}
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	s := p.session()
	check := func(what string) {
		t.Helper()
		if err := echoes(s); err != nil {
			t.Fatalf("the session, %s: %v", what, err)
		}
		p.session().Close()
	}
	p.link("eth0", netlink.LinkSetDown)
	p.link("eth0", netlink.LinkSetUp)
	check("after the interface was down")
	p.link("eth0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1400) })
	check("with a smaller MTU")
	p.untilWarned("its MTU is 1400, and was 1500", true)
	was := net.HardwareAddr(nil)
	p.link("eth0", func(l netlink.Link) error {
		was = l.Attrs().HardwareAddr
		return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{0x02, 0, 0, 0, 0, 0x77})
	})
	check("with another MAC")
	p.untilWarned("its MAC is 02:00:00:00:00:77", true)
	p.link("eth0", func(l netlink.Link) error { return netlink.LinkSetHardwareAddr(l, was) })
	p.link("eth0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1500) })
	p.untilWarned("is not as it was", false)
	check("with all as it was")
}

// A node whose interface is removed says so, and serves again once one of that name
// is back.
func TestInterfaceIsRemoved(t *testing.T) {
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	p.session()
	p.link("eth0", netlink.LinkDel)
	c.until("the interface was removed: no heartbeat leaves over it")
	p.untilWarned("interface eth0 was removed; nothing is answered on it until it is back", true)
	p.plug("10.77.0.11/24")
	p.cable()
	c.until("the interface is there again")
	p.untilWarned("was removed", false)
	p.session()
	before := p.status().Control
	for begun := time.Now(); ; {
		now := p.status().Control
		if now.HeartbeatsSent > before.HeartbeatsSent+2 && now.SendErrors == before.SendErrors {
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("heartbeats: before %+v, now %+v", before, now)
		}
	}
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}

// An interface that gets another name is not the configured one any more: status says
// so, and new clients are served once it has its own name again.
func TestInterfaceIsRenamed(t *testing.T) {
	if testing.Short() {
		t.Skip("an interface is looked at every few seconds")
	}
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	p.session()
	rename := func(from, to string) {
		p.link(from, func(l netlink.Link) error { return netlink.LinkSetName(l, to) })
	}
	rename("eth0", "lan0")
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		told := strings.Join(p.status().Warnings, "\n")
		if strings.Contains(told, "its name is lan0, and was eth0") || strings.Contains(told, "interface eth0 was removed") {
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("an interface has another name, and the warnings are %q", told)
		}
	}
	rename("lan0", "eth0")
	p.untilWarned("eth0", false)
	p.session()
	if state := c.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("stop: %v", state)
	}
	c.untilAllEnd()
}
