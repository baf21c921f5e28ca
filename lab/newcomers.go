package lab

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// newcomers are clients that connect anew all the time, from one address after
// the other, and note how long that took and who served them.
type newcomers struct {
	addresses []from
	every     time.Duration
	// atOnce connect in each turn; at most most of them are there at a time.
	atOnce, most int
	// pattern, when not nil, is what they say and want to have back, as much of it
	// as says tells for each; else they only hear who serves.
	pattern []byte
	says    func(turn int) int
	stop    chan struct{}
	done    chan struct{}
	wg      sync.WaitGroup

	mu sync.Mutex
	// all are those since the last take, and running those not done.
	all     []*newcomer
	running int
	missed  int
	// begun counts all of them, and moved the bytes that came back.
	begun int
	moved uint64
}

// newcomer is one new connection.
type newcomer struct {
	addr  netip.Addr
	began time.Time
	// connected is how long it took until the handshake was complete, told until
	// the node's name had come.
	connected, told time.Duration
	node            string
	err             error
	over            bool
}

const (
	// MaxNewcomers connect at a time; when there are more, some are left out.
	MaxNewcomers = 512
	// newcomerPatience bounds one connection.
	newcomerPatience = 20 * time.Second
)

func newNewcomers(addresses []from, every time.Duration) *newcomers {
	n := &newcomers{addresses: addresses, every: every, atOnce: 1, most: MaxNewcomers}
	n.start()
	return n
}

func (n *newcomers) start() {
	n.stop, n.done = make(chan struct{}), make(chan struct{})
	go n.run()
}

// run is the goroutine `lab.newcomers.run`; it ends with close.
func (n *newcomers) run() {
	defer close(n.done)
	ticker := time.NewTicker(n.every)
	defer ticker.Stop()
	for turn := 0; ; {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
		}
		for range n.atOnce {
			n.begin(n.addresses[turn%len(n.addresses)], turn)
			turn++
		}
	}
}

// begin begins a connection, which is tried by a goroutine of its own.
func (n *newcomers) begin(f from, turn int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running >= n.most {
		n.missed++
		return
	}
	n.running++
	n.begun++
	c := &newcomer{addr: f.addr, began: time.Now()}
	n.all = append(n.all, c)
	n.wg.Go(func() { n.try(f, c, turn) })
}

// try connects and hears who serves.
func (n *newcomers) try(f from, c *newcomer, turn int) {
	conn, err := dialVIP(f, beatPort, newcomerPatience)
	connected := time.Since(c.began)
	node, moved := "", 0
	switch {
	case err != nil:
	case n.pattern == nil:
		node, err = hearName(conn)
		conn.Close()
	default:
		node, moved, err = converse(conn, n.pattern, turn, n.says(turn))
		conn.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running--
	n.moved += uint64(moved)
	c.connected, c.told, c.node, c.err, c.over = connected, time.Since(c.began), node, err, true
}

// hearName reads the name of the node that serves. The client's FIN is sent
// again until it is acknowledged, so that it hears when the node has died: who
// only listens hears nothing.
func hearName(conn *net.TCPConn) (string, error) {
	if err := conn.CloseWrite(); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(newcomerPatience)); err != nil {
		return "", err
	}
	name, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSuffix(name, "\n"), err
}

// converse hears who serves, sends so many bytes of the pattern, from a place that
// is another one in each turn, and wants the same back and then an end, which the
// service owes to the client's half-close. It tells how many bytes came back, too.
func converse(conn *net.TCPConn, pattern []byte, turn, size int) (node string, moved int, err error) {
	in := bufio.NewReader(conn)
	// The first part goes out before anything is heard, as a browser's request does.
	for first := true; moved < size || first; first = false {
		if err := conn.SetDeadline(time.Now().Add(newcomerPatience)); err != nil {
			return node, moved, err
		}
		part := min(size-moved, loadChunkBytes)
		at := (turn + moved) % (len(pattern) - loadChunkBytes + 1)
		want := pattern[at : at+part]
		if _, err := conn.Write(want); err != nil {
			return node, moved, err
		}
		if moved+part == size {
			if err := conn.CloseWrite(); err != nil {
				return node, moved, err
			}
		}
		if first {
			name, err := in.ReadString('\n')
			if err != nil {
				return node, moved, err
			}
			node = strings.TrimSuffix(name, "\n")
		}
		if err := expect(in, want); err != nil {
			return node, moved, err
		}
		moved += part
	}
	switch _, err := in.ReadByte(); err {
	case io.EOF:
		return node, moved, nil
	case nil:
		return node, moved, errNotEchoed
	default:
		return node, moved, err
	}
}

// expect reads as many bytes as are wanted, and wants just these.
func expect(in io.Reader, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errNotEchoed
	}
	return nil
}

// waiting counts the newcomers who began before an instant and are not served.
func (n *newcomers) waiting(before time.Time) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.all {
		if !c.over && c.began.Before(before) {
			count++
		}
	}
	return count
}

// take gives the newcomers that are done, and forgets them.
func (n *newcomers) take() (out []newcomer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	rest := n.all[:0:0]
	for _, c := range n.all {
		if c.over {
			out = append(out, *c)
		} else {
			rest = append(rest, c)
		}
	}
	n.all = rest
	return out
}

// close waits for those that still try.
func (n *newcomers) close() {
	close(n.stop)
	<-n.done
	n.wg.Wait()
}
