package lab

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"
)

// BeatCommand is the hidden command that runs ServeBeat.
const BeatCommand = "beat"

// beatPort is where a node's second service is, both on the VIP and behind it:
// the port of the echo protocol (RFC 862).
const beatPort = 7

// beatService is what clients of it connect to.
func beatService() netip.AddrPort { return netip.AddrPortFrom(VIP(), beatPort) }

// ServeBeat tells every client the node's name and a line feed, and then sends
// back what it gets, at one or more addresses. It costs much less than SSH. It
// serves until the lab ends.
func ServeBeat(node string, at ...string) error {
	ended := make(chan error, len(at))
	for _, a := range at {
		addr, err := netip.ParseAddrPort(a)
		if err != nil {
			return err
		}
		network := "tcp4"
		if addr.Addr().Is6() {
			network = "tcp6"
		}
		// With "tcp", 0.0.0.0 would be a socket of IPv6 that takes both.
		l, err := net.Listen(network, a)
		if err != nil {
			return err
		}
		go serveBeat(l, node, ended)
	}
	return <-ended
}

// serveBeat is the goroutine `lab.serveBeat`; it ends with its listener.
func serveBeat(l net.Listener, node string, ended chan<- error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		go serveBeatConn(conn, node)
	}
}

// serveBeatConn is the goroutine `lab.serveBeatConn`; it ends with its
// connection.
func serveBeatConn(conn net.Conn, node string) {
	defer conn.Close()
	if _, err := io.WriteString(conn, node+"\n"); err != nil {
		return
	}
	// Clients go as they like, and daemons are killed.
	_, _ = io.Copy(conn, conn)
}

// startBeats starts the service on every node, if the lab is to have it, and
// waits until it listens.
func (l *Lab) startBeats() error {
	if !l.LAN.Spec.Beat {
		return nil
	}
	for i, h := range l.LAN.Nodes() {
		l.beats = append(l.beats, nil)
		if err := l.startBeat(i, h); err != nil {
			return err
		}
	}
	for _, h := range l.LAN.Nodes() {
		if err := untilListening(h, beatPort); err != nil {
			return err
		}
	}
	return nil
}

// startBeat starts the service on the node with this number, counted from 0.
func (l *Lab) startBeat(i int, h *Host) error {
	cmd := exec.Command(program, "lab", BeatCommand, h.Name, l.LAN.Spec.listenAt(beatPort))
	if l.LAN.Spec.IPv6 {
		cmd.Args = append(cmd.Args, netip.AddrPortFrom(netip.IPv6Loopback(), beatPort).String())
	}
	cmd.Stderr = os.Stderr
	if err := h.Start(cmd); err != nil {
		return fmt.Errorf("lab: start the beat service on %s: %w", h.Name, err)
	}
	l.beats[i] = cmd
	return nil
}

// endBeat ends the service on a node at once.
func (l *Lab) endBeat(i int) {
	if cmd := l.beats[i]; cmd != nil {
		_ = cmd.Process.Kill()
		// It was killed, which is what Wait will say.
		_ = cmd.Wait()
		l.beats[i] = nil
	}
}

func untilListening(h *Host, port uint16) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		if listening, err := listens(h, port); err != nil || listening {
			return err
		}
		if time.Since(began) > sshStartTimeout {
			return fmt.Errorf("port %d of %s is not listened on after %v", port, h.Name, sshStartTimeout)
		}
	}
}
