package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// Header is the form in which a backend is told who the client is, before the
// client's first byte: the PROXY protocol, as HAProxy's proxy-protocol.txt has it.
type Header uint8

// Headers.
const (
	NoHeader Header = iota
	// HeaderV1 is a line of text (§2.1).
	HeaderV1
	// HeaderV2 is binary (§2.2).
	HeaderV2
)

// bytes is the header of a connection, nil for none.
func (h Header) bytes(client, vip netip.AddrPort) ([]byte, error) {
	if h == NoHeader {
		return nil, nil
	}
	out, err := proxyproto.HeaderProxyFromAddrs(byte(h), net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(vip)).Format()
	if err != nil {
		return nil, fmt.Errorf("proxy: header for %s to %s: %w", client, vip, err)
	}
	return out, nil
}

// Own is the header of a connection that is nobody's but this host's own, such as
// a check: UNKNOWN of version 1 (§2.1), LOCAL of version 2 (§2.2). Nil for none.
func (h Header) Own() []byte {
	if h == NoHeader {
		return nil
	}
	// Without addresses there is nothing that the library could refuse.
	out, _ := proxyproto.HeaderProxyFromAddrs(byte(h), nil, nil).Format()
	return out
}

// Flush sends the header, if it has not gone out with the client's first bytes.
// A server that speaks first waits for it, and so does the client for the server.
func (c *Conn) Flush() error {
	if len(c.header) == 0 {
		return nil
	}
	if _, err := c.writeAfterHeader(nil); err != nil {
		return err
	}
	return nil
}

// writeAfterHeader writes the header and p in one call. What it returns is about
// p, as Write's result is.
func (c *Conn) writeAfterHeader(p []byte) (int, error) {
	if !c.writable {
		return 0, ErrAgain
	}
	c.wrote = true
	n, err := unix.SendmsgBuffers(c.fd, [][]byte{c.header, p}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if err != nil {
		errno, _ := err.(unix.Errno)
		c.writable = errno != unix.EAGAIN
		if again(errno) == ErrAgain {
			return 0, ErrAgain
		}
		return 0, os.NewSyscallError("sendmsg", err)
	}
	c.writable = n == len(c.header)+len(p)
	sent := min(n, len(c.header))
	c.header, n = c.header[sent:], n-sent
	if len(c.header) > 0 || n == 0 && len(p) > 0 {
		return 0, ErrAgain
	}
	return n, nil
}
