package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/responder"
)

// asFlood makes TestFloodClient a client in the lab.
const asFlood = "ONEVOICE_TEST_FLOOD"

// connects is how many connections mean it, while a flood of SYNs lasts.
const connects = 20

// In a flood of SYNs the kernel of the node answers, with cookies that netstack takes for
// its own: whoever means it is served, and what was answered is counted.
func TestFloodIsAnsweredInTheKernel(t *testing.T) {
	newLab(t, "--nodes=1", "--clients=1", "--addresses=1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, out := runProgram(t, labProgram(t, "exec", "ov-client1", "--", "env", "-u", asProgram, asFlood+"=1", self, "-test.v", "-test.run=^TestFloodClient$"), (*exec.Cmd).Start)
	if code != 0 || strings.Contains(out, "--- SKIP") {
		t.Fatalf("the client: exit %d: %s", code, out)
	}
	s := labStatus(t, "ov-n1")
	filter := &s.Workers[0].Filter
	if filter.NoAnswers != "" || !filter.Whole() {
		t.Skip(filter.NoAnswers, filter.State, filter.Reason)
	}
	if answered := s.Filtered.AnsweredSYNs; answered == 0 || s.Verdicts["answered-syn"] < answered || s.Flows.CookiesSent < answered {
		t.Errorf("%d SYNs were answered in the kernel; %d verdicts, %d cookies", answered, s.Verdicts["answered-syn"], s.Flows.CookiesSent)
	}
	if s.Flows.CookiesTaken < connects/2 {
		t.Errorf("%d of %d connections began with a cookie", s.Flows.CookiesTaken, connects)
	}
	if _, text := runProgram(t, labProgram(t, "exec", "ov-n1", "--", "onevoice", "status"), (*exec.Cmd).Start); !strings.Contains(text, "answered by TCX with SYN cookies, in floods: ") {
		t.Errorf("status does not say it:\n%s", text)
	}
}

// TestFloodClient is the client's part, in its namespace: SYNs from addresses of nobody,
// and connections of its own meanwhile, which hear who serves them.
func TestFloodClient(t *testing.T) {
	if os.Getenv(asFlood) == "" {
		t.Skip("a part of TestFloodIsAnsweredInTheKernel")
	}
	const begun = 30_000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		ended <- floodSYNs(ctx, func(sent int) {
			if sent == begun {
				ready <- true
			}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	for i := range connects {
		c, err := net.DialTimeout("tcp", "10.77.0.2:22", patience)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "SSH-") {
			t.Fatalf("connection %d hears %q, %v", i, line, err)
		}
		c.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// floodSYNs sends SYNs until ctx ends, 64 in a millisecond.
func floodSYNs(ctx context.Context, note func(sent int)) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	const ip, syn = 20, 2
	for sent := 1; ctx.Err() == nil; sent++ {
		b := make([]byte, ip+20)
		b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
		copy(b[12:], []byte{198, 51, byte(sent >> 8), byte(sent)})
		copy(b[16:], []byte{10, 77, 0, 2})
		binary.BigEndian.PutUint16(b[ip:], uint16(1024+sent>>16))
		binary.BigEndian.PutUint32(b[ip+4:], uint32(sent))
		b[ip+3], b[ip+12], b[ip+13] = 22, 0x50, syn
		pseudo := append(append([]byte{}, b[12:20]...), 0, unix.IPPROTO_TCP, 0, 20)
		binary.BigEndian.PutUint16(b[ip+16:], ^responder.Sum(0, append(pseudo, b[ip:]...)))
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 0, 2}}); err != nil && err != unix.ENOBUFS {
			return fmt.Errorf("SYN %d: %w", sent, err)
		}
		if sent%64 == 0 {
			<-pace.C
		}
		note(sent)
	}
	return nil
}
