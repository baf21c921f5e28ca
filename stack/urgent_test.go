package stack

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A backend that marks bytes as urgent, as telnet and FTP do: none of them is lost, in
// their order, and what follows does not wait.
func TestUrgentData(t *testing.T) {
	asked := make(chan struct{})
	w := newWorld(t, backend(t, func(c *net.TCPConn) {
		defer c.Close()
		raw, err := c.SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		say := func(flags int, text string) {
			// All of it fits into the socket.
			err := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte(text), flags, nil) })
			if err != nil {
				t.Error(err)
			}
		}
		for range 3 {
			say(0, "before")
			say(unix.MSG_OOB, "!")
			say(0, "after")
			<-asked
		}
	}))
	c, err := w.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	for i := range 3 {
		got := make([]byte, len("before!after"))
		if n, err := io.ReadFull(c, got); err != nil || string(got) != "before!after" {
			t.Fatalf("time %d: %q, %v", i, got[:n], err)
		}
		asked <- struct{}{}
	}
}
