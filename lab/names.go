package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// NamesCommand is the hidden command that runs ServeNames.
const NamesCommand = "names"

// namesPort is a node's name service's, on the VIP and behind it.
const namesPort = 53

// Numbers of RFC 1035.
const (
	dnsHeaderBytes = 12
	dnsTXT, dnsIN  = 16, 1
	// maxText is the longest text in a record, section 3.3.14.
	maxText = 255
)

// ServeNames answers questions for TXT, over UDP, at loopback's addresses of the
// families that there are: "who" with the node's name and the client's address as the
// service sees it, and "N", or "N.anything", with as many bytes of text, up to 60,000.
// It serves until the lab ends.
func ServeNames(node string, ipv6 bool) error {
	at := []string{"127.0.0.1"}
	if ipv6 {
		at = append(at, "::1")
	}
	ended := make(chan error, len(at))
	for _, a := range at {
		c, err := net.ListenPacket("udp", net.JoinHostPort(a, strconv.Itoa(namesPort)))
		if err != nil {
			return err
		}
		go serveNames(c, node, ended)
	}
	return <-ended
}

// serveNames is the goroutine `lab.serveNames`; it ends with its socket.
func serveNames(c net.PacketConn, node string, ended chan<- error) {
	defer c.Close()
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			ended <- err
			return
		}
		if answer := nameAnswer(b[:n], node, from.String()); answer != nil {
			// Who asked may be gone.
			_, _ = c.WriteTo(answer, from)
		}
	}
}

// nameAnswer is the answer to a question (RFC 1035 §4.1), nil where there is none.
func nameAnswer(q []byte, node, client string) []byte {
	const response, authority, noSuchName = 0x80, 0x04, 3
	if len(q) <= dnsHeaderBytes || q[2]&response != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return nil
	}
	end, first := dnsHeaderBytes, ""
	for end < len(q) && q[end] != 0 {
		next := end + 1 + int(q[end])
		if first == "" && next <= len(q) {
			first = string(q[end+1 : next])
		}
		end = next
	}
	const tail = 1 + 2 + 2
	if end+tail > len(q) {
		return nil
	}
	out := append([]byte{}, q[:end+tail]...)
	out[2], out[3] = out[2]|response|authority, 0
	clear(out[6:dnsHeaderBytes])
	texts := nameTexts(first, node, client)
	if texts == nil {
		out[3] = noSuchName
		return out
	}
	if binary.BigEndian.Uint16(out[end+1:]) != dnsTXT {
		return out // no data of that type
	}
	binary.BigEndian.PutUint16(out[6:], 1)
	// The name by a pointer to the question, type, class, no time to live.
	out = append(out, 0xc0, dnsHeaderBytes, 0, dnsTXT, 0, dnsIN, 0, 0, 0, 0, byte(len(texts)>>8), byte(len(texts)))
	return append(out, texts...)
}

// nameTexts are the texts of a name's record, each with its length before it; nil for
// a name that is none.
func nameTexts(name, node, client string) (out []byte) {
	const most = 60_000
	if strings.EqualFold(name, "who") {
		text := node + " " + client
		return append([]byte{byte(len(text))}, text...)
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || n > most {
		return nil
	}
	for n > 0 {
		one := min(n, maxText)
		out = append(append(out, byte(one)), strings.Repeat("x", one)...)
		n -= one
	}
	return out
}

// settingsNames is what a node's configuration has for its name service.
func (s *Spec) settingsNames() (out string) {
	if !s.Names {
		return ""
	}
	backends := map[netip.Addr]string{VIP(): "127.0.0.1"}
	if s.IPv6 {
		backends[VIP6()] = "[::1]"
	}
	for vip, backend := range backends {
		name := "dns"
		if vip.Is6() {
			name = "dns6"
		}
		out += fmt.Sprintf("\n[[service]]\nname = %q\nlisten = \"udp://%s\"\nbackend = \"%s:%d\"\n", name, netip.AddrPortFrom(vip, namesPort), backend, namesPort)
	}
	return out
}

// startNames starts the service on every node, if the lab is to have it.
func (l *Lab) startNames() error {
	if !l.LAN.Spec.Names {
		return nil
	}
	for _, h := range l.LAN.Nodes() {
		cmd := exec.Command(program, "lab", NamesCommand, h.Name, fmt.Sprintf("--ipv6=%t", l.LAN.Spec.IPv6))
		cmd.Stderr = os.Stderr
		if err := h.Start(cmd); err != nil {
			return fmt.Errorf("lab: start the name service on %s: %w", h.Name, err)
		}
		l.names = append(l.names, cmd)
	}
	for _, h := range l.LAN.Nodes() {
		if err := h.Do(untilNamesAnswer); err != nil {
			return fmt.Errorf("lab: the name service on %s: %w", h.Name, err)
		}
	}
	return nil
}

// untilNamesAnswer waits for an answer on loopback.
func untilNamesAnswer() (err error) {
	question := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03who\x00\x00\x10\x00\x01"...)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < namesWait; <-ticker.C {
		if err = askNames(question); err == nil {
			return nil
		}
	}
	return err
}

// namesWait bounds how long the service may take to start, and namesTry a try.
const (
	namesWait = 10 * time.Second
	namesTry  = 20 * time.Millisecond
)

// askNames asks once, which takes namesTry when nobody answers.
func askNames(question []byte) error {
	c, err := net.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(namesPort)))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(namesTry)); err != nil {
		return err
	}
	if _, err := c.Write(question); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}

// endNames ends what startNames has started.
func (l *Lab) endNames() {
	for _, c := range l.names {
		_ = c.Process.Kill()
		// It was killed, which is what Wait will say.
		_ = c.Wait()
	}
	l.names = nil
}
