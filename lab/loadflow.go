package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// loadFlow is a connection of a load to the beat service: it sends something and
// waits until the same has come back.
type loadFlow struct {
	from from
	// node is the one that serves it.
	node string
	conn net.Conn
	// moved counts the bytes of its node's flows, both ways.
	moved *atomic.Uint64
	turn  int
}

const (
	// loadBeatEvery is how often a flow beats that has nothing else to do.
	loadBeatEvery = 5 * time.Second
	// loadChunkBytes is what a transfer sends before it reads: it has to fit into
	// the buffers on the way, for the service sends back what it reads.
	loadChunkBytes = 32 << 10
	// loadTurnBytes is what a flow transfers when it is its turn.
	loadTurnBytes = 1 << 20
	// loadTransfers run at a time, all over the nodes.
	loadTransfers = 16
	// echoPatience bounds how long anything may take to come back.
	echoPatience = 30 * time.Second
)

// openLoadFlow connects and hears who serves.
func openLoadFlow(f from) (*loadFlow, error) {
	conn, err := dialVIP(f, beatPort, openTimeout)
	if err != nil {
		return nil, err
	}
	l := &loadFlow{from: f, conn: conn}
	if err := l.hear(); err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

// hear reads the node's name, after which nothing comes until something is sent.
func (f *loadFlow) hear() error {
	if err := f.conn.SetReadDeadline(time.Now().Add(openTimeout)); err != nil {
		return err
	}
	const smallest = 16
	name, err := bufio.NewReaderSize(f.conn, smallest).ReadString('\n')
	if err == nil {
		f.node = name[:len(name)-1]
	}
	return err
}

// exchange sends a part of the pattern and reads it back.
func (f *loadFlow) exchange(pattern []byte, into []byte) error {
	if err := f.conn.SetDeadline(time.Now().Add(echoPatience)); err != nil {
		return err
	}
	f.turn++
	at := f.turn % (len(pattern) - len(into) + 1)
	want := pattern[at : at+len(into)]
	if _, err := f.conn.Write(want); err != nil {
		return err
	}
	for got := 0; got < len(into); {
		n, err := f.conn.Read(into[got:])
		if err != nil {
			return err
		}
		got += n
	}
	if !bytes.Equal(into, want) {
		return errNotEchoed
	}
	f.moved.Add(2 * uint64(len(into)))
	return nil
}

// transfer is a turn of a flow.
func (f *loadFlow) transfer(pattern, into []byte) error {
	for sent := 0; sent < loadTurnBytes; sent += len(into) {
		if err := f.exchange(pattern, into); err != nil {
			return err
		}
	}
	return nil
}

// String is for a breach.
func (f *loadFlow) String() string {
	return fmt.Sprintf("the flow of %s with %s", f.conn.LocalAddr(), f.node)
}
