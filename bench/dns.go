package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// DNSCommand is the hidden command of `lab` that runs ServeDNS.
const DNSCommand = "bench-dns"

// portDNS is the name service's behind the paths.
const portDNS = 5300

// ServeDNS answers every question about a name with one address, until it is
// ended. It costs next to nothing beside the path that leads to it, and listens
// on one address, so that its answers come from there.
func ServeDNS(address string) error {
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(address, strconv.Itoa(portDNS)))
	if err != nil {
		return err
	}
	defer conn.Close()
	const mostBytes = 512 // of a message over UDP (RFC 1035, section 4.2.1)
	b := make([]byte, mostBytes, 2*mostBytes)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return err
		}
		if answer := dnsAnswer(b[:n]); answer != nil {
			// Who asked may be gone.
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// dnsAnswer makes an answer of a question in its place (RFC 1035, section 4.1),
// or nil of what is none.
func dnsAnswer(b []byte) []byte {
	const header, response, authority = 12, 0x80, 0x04
	if len(b) <= header || b[2]&response != 0 || binary.BigEndian.Uint16(b[4:]) != 1 {
		return nil
	}
	// The question ends with its name's empty label, type and class; what follows,
	// as options do, is not repeated.
	end := header
	for end < len(b) && b[end] != 0 {
		end += 1 + int(b[end])
	}
	const tail = 1 + 2 + 2
	if end+tail > len(b) {
		return nil
	}
	b = b[:end+tail]
	b[2] |= response | authority
	b[3] = 0
	binary.BigEndian.PutUint16(b[6:], 1)
	clear(b[8:header])
	// The name by a pointer to the question, type A, class IN, one minute, 4 bytes.
	return append(b, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 77, 0, 2)
}

// dnsQueries are questions over UDP, from 8 sockets, as many as come to be
// answered.
func dnsQueries(ctx context.Context, b *bed, p *path, d time.Duration) (_ []float64, err error) {
	if !p.dns.IsValid() {
		return nil, errNotSupported
	}
	behind := p.dns.Addr().String()
	if !p.host {
		behind = "127.0.0.1"
	}
	s, err := startServer(b.node, "dns", "onevoice", "lab", DNSCommand, behind)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := b.untilAnswersDNS(p.dns, s.ended); err != nil {
		return nil, err
	}
	questions := filepath.Join(runDir(), "questions")
	if err := os.WriteFile(questions, []byte("www.example.com A\n"), 0o644); err != nil {
		return nil, err
	}
	out, err := output(ctx, b.client, d+loadSlack, "dnsperf", "-s", p.dns.Addr().String(), "-p", fmt.Sprint(p.dns.Port()),
		"-d", questions, "-l", seconds(d), "-c", "8", "-T", "1", "-t", "1")
	if err != nil {
		return nil, err
	}
	rate, err := parseDNSPerf(out)
	return []float64{rate}, err
}

// untilAnswersDNS waits until a question from the client is answered.
func (b *bed) untilAnswersDNS(to netip.AddrPort, ended func() error) error {
	question := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03www\x07example\x03com\x00\x00\x01\x00\x01"...)
	try := func() error {
		c, err := net.Dial("udp4", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(question); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(tryTimeout)); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 512))
		return err
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		err := b.client.Do(try)
		if err == nil {
			return nil
		}
		if err := ended(); err != nil {
			return err
		}
		if time.Since(began) > acceptTimeout {
			return fmt.Errorf("%s answers no question after %v: %w", to, acceptTimeout, err)
		}
	}
}

// dnsLossPercent is how many questions may be lost, as UDP does where a queue is
// full.
const dnsLossPercent = 1

// parseDNSPerf reads the rate of answers from dnsperf's report.
func parseDNSPerf(text string) (float64, error) {
	rate, err := firstNumber(text, `Queries per second:\s+([0-9.]+)`)
	if err != nil {
		return 0, fmt.Errorf("dnsperf: no rate in its report")
	}
	lost, err := firstNumber(text, `Queries lost:\s+\d+ \(([0-9.]+)%\)`)
	if err != nil {
		return 0, fmt.Errorf("dnsperf: no loss in its report")
	}
	if lost > dnsLossPercent {
		return 0, fmt.Errorf("dnsperf: %v %% of the questions were lost", lost)
	}
	if rate <= 0 {
		return 0, errors.New("dnsperf: no question was answered")
	}
	return rate, nil
}

func firstNumber(text, pattern string) (float64, error) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("not found")
	}
	return strconv.ParseFloat(m[1], 64)
}
