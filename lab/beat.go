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
// back what it gets. It costs much less than SSH. It serves until the lab ends.
func ServeBeat(node, at string) error {
	l, err := net.Listen("tcp4", at)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
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
	for _, h := range l.LAN.Nodes() {
		cmd := exec.Command(program, "lab", BeatCommand, h.Name, l.LAN.Spec.listenAt(beatPort))
		cmd.Stderr = os.Stderr
		if err := h.Start(cmd); err != nil {
			return fmt.Errorf("lab: start the beat service on %s: %w", h.Name, err)
		}
		l.beats = append(l.beats, cmd)
	}
	for _, h := range l.LAN.Nodes() {
		if err := untilListening(h, beatPort); err != nil {
			return err
		}
	}
	return nil
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
