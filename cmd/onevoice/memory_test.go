package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"onevoice/config"
	"onevoice/stack"
)

// Memory gets tight at half of the bound and full at three quarters, and stays so until
// an eighth is free again.
func TestMemoryAt(t *testing.T) {
	const limit = 800
	was := stack.Ample
	for _, c := range []struct {
		live uint64
		want stack.Memory
	}{
		{399, stack.Ample}, {400, stack.Tight}, {310, stack.Tight}, {299, stack.Ample}, {600, stack.Full}, {510, stack.Full}, {499, stack.Tight},
		{599, stack.Tight}, {2000, stack.Full}, {0, stack.Ample},
	} {
		if was = memoryAt(was, c.live, limit); was != c.want {
			t.Errorf("%d of %d: %v, want %v", c.live, limit, was, c.want)
		}
	}
}

// The file's bound, or half of the host's; and a collection before there is an eighth more.
func TestMemoryOf(t *testing.T) {
	for _, c := range []struct {
		file int
		host uint64
		want uint64
	}{{100, 1 << 40, 100 << 20}, {0, 1 << 30, 512 << 20}, {0, 0, config.MinMemoryMiB << 20}} {
		if got := memoryOf(c.file, c.host); got != c.want {
			t.Errorf("%d MiB in the file, %d bytes here: %d, want %d", c.file, c.host, got, c.want)
		}
	}
	if hostMemory() < 64<<20 {
		t.Errorf("this host has %d bytes", hostMemory())
	}
	const mega = 1 << 20
	for live, want := range map[uint64]uint64{0: 32 * mega, 8 * mega: 32 * mega, 24 * mega: 48 * mega, 64 * mega: 88 * mega} {
		if got := softLimit(live, 64*mega); got != want {
			t.Errorf("%d MiB in use of 64: %d, want %d", live/mega, got/mega, want/mega)
		}
	}
}

// Clients that ask for much and never read: what is held for them stays within the
// bound of the file, who was there before is served, newcomers wait, and once they are
// gone all is as it was.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the memory of a daemon")
	}
	p := newPair(t)
	p.configure(fmt.Sprintf("[[service]]\nname = \"flood\"\nlisten = \"%s:80\"\nbackend = \"127.0.0.1:8001\"\nsource = \"plain\"\n", testVIP))
	text, err := os.ReadFile(p.file)
	if err == nil {
		err = os.WriteFile(p.file, []byte(strings.Replace(string(text), "[node]\n", "[node]\nmemory_mib = 64\n", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.serve("127.0.0.1:8001", func(c net.Conn) { _, _ = io.Copy(c, zeroReader{}) })
	p.start().until("answering: this node holds a lease")
	s := p.session()
	const most = 2000
	open, memory := 0, ""
	var clients []net.Conn
	for ; open < most && memory != "full"; open++ {
		// A full worker is silent.
		d := net.Dialer{Timeout: 5 * time.Second}
		err := p.client.Do(func() error {
			c, err := d.Dial("tcp4", testVIP+":80")
			if err == nil {
				clients = append(clients, c)
				err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			return err
		})
		switch s := p.status; {
		case err != nil && s().Verdicts["flows-full"] == 0 && s().Flows.OverLimit == 0:
			t.Fatalf("connection %d: %v; %+v", open, err, s().Flows)
		case err != nil:
			// It was full when the client asked, or when its handshake was over.
			memory = "full"
		case open%8 == 7:
			memory = s().Workers[0].Memory
		}
	}
	worker := p.status().Workers[0]
	t.Logf("%d clients; %s, %d KiB of heap", open, worker.Memory, worker.Process.HeapBytes>>10)
	if worker.Memory == "ample" || worker.Process.HeapBytes > 96<<20 {
		t.Errorf("memory is %s with %d KiB of heap", worker.Memory, worker.Process.HeapBytes>>10)
	}
	if err := echoes(s); err != nil {
		t.Errorf("who was there before: %v", err)
	}
	for _, c := range clients {
		c.Close()
	}
	for begun := time.Now(); p.status().Workers[0].Memory != "ample"; time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%+v", p.status().Workers[0].Process)
		}
	}
	p.session().Close()
}
