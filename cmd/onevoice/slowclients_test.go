package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

var slowClients = flag.Int("slow-clients", 100, "how many slow clients there are at a time")

// slowAnswer is what a slow client is sent before it has asked.
func slowAnswer() []byte { return bytes.Repeat([]byte("slow"), 8<<10) }

// mostOfSlow bounds the heap that such a client may take, in bytes: its answer, and as
// much again. 19 to 31 KiB were measured, of 100 to 9,900 clients.
const mostOfSlow = 64 << 10

// slow opens a client that takes little at a time and does not read.
func (p *pair) slow() (c net.Conn, err error) {
	err = p.client.Do(func() error {
		if c, err = net.DialTimeout("tcp4", testVIP+":80", patience); err != nil {
			return err
		}
		return c.(*net.TCPConn).SetReadBuffer(4 << 10)
	})
	return c, err
}

// As many slow clients at a time as are asked for: each says a byte of its question now
// and then, and reads a byte of an answer that is longer than its window. None is given
// up, memory is bounded, others are served as ever, and who reads on gets all.
func TestSlowClients(t *testing.T) {
	p, answer := newPair(t), slowAnswer()
	p.configure(fmt.Sprintf("[[service]]\nname = \"web\"\nlisten = \"%s:80\"\nbackend = \"127.0.0.1:8001\"\nsource = \"plain\"\n", testVIP))
	text, err := os.ReadFile(p.file)
	if err == nil {
		err = os.WriteFile(p.file, []byte(strings.Replace(string(text), "[node]\n", "[node]\nmemory_mib = 512\n", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.serve("127.0.0.1:8001", func(c net.Conn) {
		_, _ = c.Write(answer)
		_, _ = io.Copy(io.Discard, c)
	})
	p.start().until("answering: this node holds a lease")
	other, began, before := p.session(), time.Now(), p.status().Workers[0].Process
	clients := make([]net.Conn, *slowClients)
	for i := range clients {
		if clients[i], err = p.slow(); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer clients[i].Close()
	}
	opened, one := time.Since(began), make([]byte, 1)
	var longest time.Duration
	for round := range 3 {
		for i, c := range clients {
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(one); err != nil {
				t.Fatalf("client %d in round %d: %v", i, round, err)
			}
			if _, err := io.ReadFull(c, one); err != nil || one[0] != answer[round] {
				t.Fatalf("client %d in round %d: %q, %v", i, round, one, err)
			}
		}
		asked := time.Now()
		if err := echoes(other); err != nil {
			t.Fatalf("another's session in round %d: %v", round, err)
		}
		longest = max(longest, time.Since(asked))
		p.session().Close()
	}
	s := p.status()
	each := (int64(s.Workers[0].Process.HeapBytes) - int64(before.HeapBytes)) / int64(len(clients))
	if s.Flows.Running < len(clients) || s.Flows.Broken+s.Flows.OverLimit+s.Flows.Refused != 0 || each > mostOfSlow {
		t.Errorf("%+v, %d bytes of heap for each client", s.Flows, each)
	}
	t.Logf("%d slow clients, open after %v: %d KiB of heap and %d descriptors each, memory is %s; another's session waited for %v at most; the longest turn took %.3f s, the kernel dropped %d frames",
		len(clients), opened.Round(time.Millisecond), each>>10,
		(s.Workers[0].Process.FDs-before.FDs)/len(clients), s.Workers[0].Memory, longest.Round(time.Microsecond), s.Loop.LongestTurn, s.Device.KernelDropped)
	rest := make([]byte, len(answer)-3)
	if err := clients[0].SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(clients[0], rest); err != nil || !bytes.Equal(rest, answer[3:]) {
		t.Errorf("who reads on gets other bytes, or none: %v", err)
	}
	for _, c := range clients {
		c.Close()
	}
	for begun := time.Now(); p.status().Flows.Running > 1; time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%d flows are left", p.status().Flows.Running)
		}
	}
}
