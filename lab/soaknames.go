package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// nameAsks are clients that ask the name service all the time, each from a socket of
// its own, and look who answers, and whether somebody else does as well.
type nameAsks struct {
	addresses []from
	every     time.Duration
	stop      chan struct{}
	done      chan struct{}
	wg        sync.WaitGroup

	mu              sync.Mutex
	asked, answered int
	wrong           []string
}

const (
	// askPatience bounds how long an answer may take, and secondPatience how long a
	// second one is waited for.
	askPatience    = 2 * time.Second
	secondPatience = 100 * time.Millisecond
	// maxWrong answers are kept with what was wrong.
	maxWrong = 100
)

func newNameAsks(addresses []from, every time.Duration) *nameAsks {
	a := &nameAsks{addresses: addresses, every: every, stop: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a
}

// run is the goroutine `lab.nameAsks.run`; it ends with close.
func (a *nameAsks) run() {
	defer close(a.done)
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-a.stop:
			return
		case <-ticker.C:
			a.wg.Go(func() { a.one(a.addresses[turn%len(a.addresses)], uint16(turn)) })
		}
	}
}

// one asks once. That nobody answers is no fault: a datagram may be lost.
func (a *nameAsks) one(f from, id uint16) {
	err := askWho(f, id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	switch {
	case err == nil:
		a.answered++
	case errors.Is(err, errWrongAnswer) && len(a.wrong) < maxWrong:
		a.wrong = append(a.wrong, fmt.Sprintf("%s asked for a name: %v", f.addr, err))
	}
}

// errWrongAnswer says that an answer is not as it must be.
var errWrongAnswer = errors.New("a wrong answer")

// askWho asks who answers. The service has to have seen the client as it is.
func askWho(f from, id uint16) error {
	c, err := dialNames(f)
	if err != nil {
		return err
	}
	defer c.Close()
	question := append(binary.BigEndian.AppendUint16(nil, id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	question = append(question, "\x03who\x00\x00\x10\x00\x01"...)
	if _, err := c.Write(question); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(askPatience)); err != nil {
		return err
	}
	b := make([]byte, 1<<10)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if text := string(b[:n]); n < len(question) || binary.BigEndian.Uint16(b) != id || !strings.HasSuffix(text, " "+c.LocalAddr().String()) {
		return fmt.Errorf("%w: %q", errWrongAnswer, text)
	}
	if err := c.SetReadDeadline(time.Now().Add(secondPatience)); err != nil {
		return err
	}
	switch n, err = c.Read(b); {
	case err == nil:
		return fmt.Errorf("%w: a second one, %q", errWrongAnswer, b[:n])
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

func dialNames(f from) (c *net.UDPConn, err error) {
	err = f.host.Do(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{IP: f.addr.AsSlice()}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.vip(), namesPort)))
		return err
	})
	return c, err
}

// take gives the wrong answers since the last call.
func (a *nameAsks) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.wrong
	a.wrong = nil
	return out
}

// counts tells how many were asked, and how many answered as they must be.
func (a *nameAsks) counts() (asked, answered int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked, a.answered
}

// close waits for those that still ask.
func (a *nameAsks) close() {
	close(a.stop)
	<-a.done
	a.wg.Wait()
}
