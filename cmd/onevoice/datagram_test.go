package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// measures answers datagrams in the node's namespace until the test ends: each begins
// with how long the answer is to be, 4 bytes, which begins with whom it saw.
func (p *pair) measures(at string) net.PacketConn {
	p.t.Helper()
	var c net.PacketConn
	err := p.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", at)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n < 4 {
				continue
			}
			answer := make([]byte, binary.BigEndian.Uint32(b))
			copy(answer, fmt.Sprintf("%s sent %d bytes\n", from, n))
			_, _ = c.WriteTo(answer, from)
		}
	}()
	return c
}

// talk opens a UDP socket from the client to a port of the VIP.
func (p *pair) talk(port int) *net.UDPConn {
	p.t.Helper()
	var c net.Conn
	err := p.client.Do(func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(testVIP, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

// wants asks for an answer of so many bytes by a question of so many, and reads one
// datagram. What is lost on the way is asked for again; what was only late is answered
// twice, so that an answer of another length may be that of the question before.
func wants(c *net.UDPConn, answer, question int) ([]byte, error) {
	q := make([]byte, max(question, 4))
	binary.BigEndian.PutUint32(q, uint32(answer))
	b := make([]byte, 1<<16)
	for end := time.Now().Add(patience); ; {
		if _, err := c.Write(q); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return nil, err
		}
		var other []byte
		n, err := c.Read(b)
		for err == nil && n != answer {
			other = append(other[:0], b[:n]...)
			n, err = c.Read(b)
		}
		switch {
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded):
			return b[:n], err
		case other != nil:
			return other, nil
		case time.Now().After(end):
			return nil, err
		}
	}
}

const measured = `[[service]]
name = "measure"
listen = "udp://10.77.0.2:5000"
backend = "127.0.0.1:5001"
[[service]]
name = "nobody"
listen = "udp://10.77.0.2:5002"
backend = "127.0.0.1:5003"
[[service]]
name = "plain"
listen = "udp://10.77.0.2:6000-6002"
backend = "127.0.0.1:5001"
source = "plain"
`

// A UDP service sees the client's own address and port, whole datagrams come and go
// whatever their length, and each is answered once.
func TestUDPService(t *testing.T) {
	p := newPair(t)
	p.configure(measured)
	server := p.measures("127.0.0.1:5001")
	d := p.start()
	d.until("answering: this node holds a lease")
	c := p.talk(5000)
	for _, n := range []struct{ answer, question int }{{512, 20}, {1232, 20}, {1472, 1472}, {1473, 1473}, {4096, 100}, {100, 9000}, {65_507, 65_507}} {
		got, err := wants(c, n.answer, n.question)
		if err != nil {
			t.Fatalf("%d bytes for %d: %v", n.answer, n.question, err)
		}
		says := fmt.Sprintf("%s sent %d bytes\n", c.LocalAddr(), n.question)
		if len(got) != n.answer || !strings.HasPrefix(string(got), says) {
			t.Errorf("%d bytes for %d: %d came, which say %q", n.answer, n.question, len(got), bytes.TrimRight(got[:min(len(got), 80)], "\x00"))
		}
	}
	if s := p.status(); s.Datagrams.Flows != 1 || s.Datagrams.Begun != 1 || s.Datagrams.DatagramsUp != s.Datagrams.DatagramsDown || s.Datagrams.Fragmented == 0 ||
		s.Verdicts["fragment-held"] == 0 || s.Services[1].Flows != 1 || s.Services[1].Listen != "udp://10.77.0.2:5000" {
		t.Errorf("%+v\n%+v\n%v", s.Datagrams, s.Services, s.Verdicts)
	}
	// Whoever asks plainly is this host to the service.
	if got, err := wants(p.talk(6001), 100, 20); err != nil || !strings.HasPrefix(string(got), "127.0.0.1:") {
		t.Errorf("plain: %q, %v", got, err)
	}
	// Where no program has the port the client is told, by whichever port it is.
	for what, port := range map[string]int{"a backend that is not there": 5003 - 1, "a port without a service": 5999} {
		if _, err := wants(p.talk(port), 100, 20); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", what, err)
		}
	}
	server.Close()
	if _, err := wants(c, 100, 20); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a backend that has gone: %v", err)
	}
	p.measures("127.0.0.1:5001")
	if _, err := wants(c, 100, 20); err != nil {
		t.Errorf("a backend that is back: %v", err)
	}
	p.ownDatagrams()
	// This host's own TCP is as it was.
	p.session()
	if state := d.end(syscall.SIGTERM); !state.Success() {
		t.Errorf("the end: %v", state)
	}
}

// Real name servers and a real resolver's tools: one answer for each question, of 512
// to 4,096 bytes, from the server to the client's own address.
func TestDNS(t *testing.T) {
	for _, tool := range []string{"dnsmasq", "dig"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool)
		}
	}
	p := newPair(t)
	p.configure(strings.NewReplacer("5000", "53", "5001", "5300").Replace(measured))
	dir := t.TempDir()
	var records strings.Builder
	for i, n := range []int{1, 2, 7, 14} {
		for k := range n {
			fmt.Fprintf(&records, "txt-record=t%d.example,%s\n", i, strings.Repeat(string(rune('a'+k)), 250))
		}
	}
	log, file := filepath.Join(dir, "queries"), filepath.Join(dir, "conf")
	text := records.String() + fmt.Sprintf(`port=5300
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
keep-in-foreground
edns-packet-max=4096
address=/www.example/192.0.2.80
pid-file=
user=root
log-queries=extra
log-facility=%s
`, log)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("dnsmasq", "--conf-file="+file)
	server.Stderr = os.Stderr
	if err := p.Start(server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	p.start().until("answering: this node holds a lease")
	dig := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("dig", append([]string{"@" + testVIP, "+tries=10", "+time=2"}, args...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := p.client.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			t.Fatalf("dig %q: %v\n%s", args, err, &out)
		}
		return out.String()
	}
	if out := dig("www.example", "A", "+short"); strings.TrimSpace(out) != "192.0.2.80" {
		t.Errorf("www.example is at %q", out)
	}
	for i, least := range []int{250, 500, 1750, 3500} {
		out := dig(fmt.Sprintf("t%d.example", i), "TXT", "+bufsize=4096", "+notcp", "+ignore")
		_, size, _ := strings.Cut(out, "MSG SIZE  rcvd: ")
		var n int
		fmt.Sscan(size, &n)
		if n < least || !strings.Contains(out, "status: NOERROR") || strings.Contains(out, " tc") {
			t.Errorf("t%d.example: %d bytes, at least %d are right\n%s", i, n, least, out)
		}
	}
	seen, err := os.ReadFile(log)
	if err != nil || !bytes.Contains(seen, []byte(" 10.77.0.101/")) || bytes.Contains(seen, []byte(" 127.0.0.1/")) {
		t.Errorf("the server saw other clients: %v\n%s", err, seen)
	}
	if a := netip.MustParseAddr("10.77.0.101"); p.status().Datagrams.DatagramsUp < 5 {
		t.Errorf("%v asked less than that", a)
	}
}

// ownDatagrams: this host itself reaches the service, and is seen with its own address.
func (p *pair) ownDatagrams() {
	p.t.Helper()
	var c net.Conn
	err := p.Do(func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(testVIP, "5000"))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	for _, answer := range []int{100, 4096, 60_000} {
		got, err := wants(c.(*net.UDPConn), answer, 20)
		if err != nil || len(got) != answer || !strings.HasPrefix(string(got), "10.77.0.11:") {
			p.t.Errorf("this host wants %d bytes: %d come, %q, %v", answer, len(got), bytes.TrimRight(got[:min(len(got), 60)], "\x00"), err)
		}
	}
}
