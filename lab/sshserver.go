package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"

	"golang.org/x/crypto/ssh"
)

// SSHCommand is the hidden command that runs ServeSSH.
const SSHCommand = "sshd"

// ServeSSH is a small SSH server for a lab on machines without sshd, or where
// sshd cannot take other users' ids: it runs commands with sh and has no
// terminals. It serves until the lab ends.
func ServeSSH(hostKeyFile, authorizedFile, node, at string) error {
	pem, err := os.ReadFile(hostKeyFile)
	if err != nil {
		return err
	}
	hostKey, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return err
	}
	allowed, err := os.ReadFile(authorizedFile)
	if err != nil {
		return err
	}
	cfg := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !bytes.Equal(ssh.MarshalAuthorizedKey(key), allowed) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	cfg.AddHostKey(hostKey)
	l, err := listenTCP(at)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go serveSSHConn(conn, cfg, node)
	}
}

// listenTCP listens for the family of an address alone: net.Listen takes 0.0.0.0 for all
// addresses of both, and has a socket of IPv6 then, which listens does not see.
func listenTCP(at string) (net.Listener, error) {
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, err
	}
	if addr.Addr().Is4() {
		return net.Listen("tcp4", at)
	}
	return net.Listen("tcp6", at)
}

// serveSSHConn is the goroutine `lab.serveSSHConn`; it ends with its connection.
func serveSSHConn(conn net.Conn, cfg *ssh.ServerConfig, node string) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		log.Printf("connection from %v failed: %v", conn.RemoteAddr(), err)
		return
	}
	log.Printf("Accepted publickey for %s from %v", c.User(), conn.RemoteAddr())
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		if ch.ChannelType() != "session" {
			// The client hears of it, or is gone.
			_ = ch.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		go serveSSHSession(channel, requests, sessionEnv(c, node))
	}
}

func sessionEnv(c *ssh.ServerConn, node string) []string {
	from, to := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
	return append(os.Environ(), "ONEVOICE_NODE="+node,
		fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", from.IP, from.Port, to.IP, to.Port))
}

// serveSSHSession is the goroutine `lab.serveSSHSession`; it ends with its
// channel.
func serveSSHSession(ch ssh.Channel, requests <-chan *ssh.Request, env []string) {
	defer ch.Close()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var command struct{ Text string }
		if err := ssh.Unmarshal(r.Payload, &command); err != nil {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		status := struct{ Code uint32 }{runShell(ch, command.Text, env)}
		// RFC 4254 §6.10. A client that is gone does not hear it.
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&status))
		return
	}
}

func runShell(ch ssh.Channel, command string, env []string) uint32 {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, ch, ch.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 255
	}
	go func() {
		// The command may end before its input does.
		_, _ = io.Copy(in, ch)
		in.Close()
	}()
	var failed *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &failed) {
		return uint32(failed.ExitCode())
	} else if err != nil {
		return 255
	}
	return 0
}
