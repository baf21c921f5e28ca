package lab

import (
	"bufio"
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
	stop      chan struct{}
	done      chan struct{}
	wg        sync.WaitGroup

	mu sync.Mutex
	// all are those since the last take, and running those not done.
	all     []*newcomer
	running int
	missed  int
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
	n := &newcomers{addresses: addresses, every: every, stop: make(chan struct{}), done: make(chan struct{})}
	go n.run()
	return n
}

// run is the goroutine `lab.newcomers.run`; it ends with close.
func (n *newcomers) run() {
	defer close(n.done)
	ticker := time.NewTicker(n.every)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
			n.begin(n.addresses[turn%len(n.addresses)])
		}
	}
}

// begin begins a connection, which is tried by a goroutine of its own.
func (n *newcomers) begin(f from) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running >= MaxNewcomers {
		n.missed++
		return
	}
	n.running++
	c := &newcomer{addr: f.addr, began: time.Now()}
	n.all = append(n.all, c)
	n.wg.Go(func() { n.try(f, c) })
}

// try connects and hears who serves.
func (n *newcomers) try(f from, c *newcomer) {
	conn, err := dialVIP(f, beatPort, newcomerPatience)
	connected := time.Since(c.began)
	node := ""
	if err == nil {
		node, err = hearName(conn)
		conn.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running--
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
