package main

import (
	"encoding/binary"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateAnswer puts a SYN-ACK from the VIP on the node's interface, as a worker
// does that was stopped between its look at the clock and the send, and reports
// whether it left.
func (p *pair) lateAnswer() (left bool) {
	p.t.Helper()
	err := p.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := make([]byte, 14+20+20)
		copy(frame, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0, 0x45})
		binary.BigEndian.PutUint16(frame[16:], 40)
		frame[22], frame[23] = 64, unix.IPPROTO_TCP
		copy(frame[26:], net.ParseIP(testVIP).To4())
		copy(frame[30:], []byte{10, 77, 0, 99})
		frame[46], frame[47] = 0x50, 0x12
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index})
		left = err == nil
		if err == unix.ENOBUFS {
			// What a program drops at egress is that to the sender.
			err = nil
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return left
}

// untilLateAnswers waits until late answers leave, or do not any more.
func (p *pair) untilLateAnswers(leave bool) {
	p.t.Helper()
	for begun := time.Now(); p.lateAnswer() != leave; runtime.Gosched() {
		if time.Since(begun) > patience {
			p.t.Fatalf("a SYN-ACK leaves: %v, all the time", !leave)
		}
	}
}

// guarded starts a node whose kernel has the guard, or skips the test.
func guarded(t *testing.T) (*pair, *controlProcess) {
	t.Helper()
	p := newPair(t)
	c := p.start()
	c.until("answering: this node holds a lease")
	if g := p.status().Workers[0].Guard; g.State != "in the kernel" {
		if !strings.HasPrefix(g.State, "not available: ") {
			t.Fatalf("guard %+v", g)
		}
		if !strings.Contains(strings.Join(c.log, "\n"), "the kernel does not guard the end of the lease") {
			t.Error("the log does not say that there is no guard")
		}
		t.Skipf("guard %s", g.State)
	}
	return p, c
}

// While control stands still nobody renews the lease: the worker answers nothing
// new, and the kernel drops even what was ready to leave. Sessions go on.
func TestStoppedControlKeepsSilence(t *testing.T) {
	p, c := guarded(t)
	old := p.session()
	if !p.lateAnswer() {
		t.Error("a SYN-ACK does not leave under a lease")
	}
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.untilLateAnswers(false)
	if fresh, err := p.dial(time.Second); err == nil {
		fresh.Close()
		t.Error("a session was accepted without a lease")
	}
	if err := echoes(old); err != nil {
		t.Errorf("a session without a lease: %v", err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.untilLateAnswers(true)
	p.session()
	if g := p.status().Workers[0].Guard; g.SYNACKs == 0 || g.ARPReplies != 0 || g.EchoReplies != 0 {
		t.Errorf("guard %+v", g)
	}
}

// A worker that is left alone does not stand in the way of another that guards
// the same address.
func TestWorkerLeftAloneOpensItsGuard(t *testing.T) {
	p, c := guarded(t)
	p.session()
	c.end(syscall.SIGKILL)
	c.until("the control process is gone")
	for begun := time.Now(); ; {
		fresh, err := p.dial(time.Second)
		if err != nil {
			break
		}
		fresh.Close()
		if time.Since(begun) > patience {
			t.Fatal("a session was accepted without a lease")
		}
	}
	if !p.lateAnswer() {
		t.Error("the guard of a worker without control is shut")
	}
	// Taken up again it is a guard as before.
	c = p.start()
	c.until("answering: this node holds a lease")
	p.session()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.untilLateAnswers(false)
}
