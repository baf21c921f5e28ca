package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// liveFlows are the flows that run while the cluster is tortured.
type liveFlows struct {
	ssh       *SSH
	addresses []from
	// wantSSH and wantTCP are how many there are to be.
	wantSSH, wantTCP int

	mu    sync.Mutex
	all   []*liveFlow
	next  int
	opens waits
	// sessions of opens were of SSH.
	sessions int
}

// How often flows beat. A session of SSH costs several programs a turn.
const (
	tcpBeatEvery = 100 * time.Millisecond
	sshBeatEvery = time.Second
)

func newLiveFlows(s *SSH, addresses []from, wantSSH, wantTCP int) *liveFlows {
	return &liveFlows{ssh: s, addresses: addresses, wantSSH: wantSSH, wantTCP: wantTCP}
}

// living are the flows that have not ended.
func (l *liveFlows) living() (out []*liveFlow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.all {
		if _, _, ended := f.state(); ended == nil {
			out = append(out, f)
		}
	}
	return out
}

// replenish forgets flows that have ended and opens as many as are missing, a
// few at a time. The LAN has to be calm.
func (l *liveFlows) replenish(ctx context.Context) error {
	living := l.living()
	missing := map[bool]int{true: l.wantSSH, false: l.wantTCP}
	for _, f := range living {
		missing[f.ssh]--
	}
	l.mu.Lock()
	l.all = living
	l.mu.Unlock()
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, loginsAtOnce)
	for _, overSSH := range []bool{true, false} {
		for range missing[overSSH] {
			slots <- struct{}{}
			if ctx.Err() != nil {
				break
			}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := l.open(overSSH); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// open opens one flow from the next address in turn.
func (l *liveFlows) open(overSSH bool) error {
	l.mu.Lock()
	from := l.addresses[l.next%len(l.addresses)]
	l.next++
	l.mu.Unlock()
	every := tcpBeatEvery
	if overSSH {
		every = sshBeatEvery
	}
	began := time.Now()
	f, err := openFlow(l.ssh, from, overSSH, every)
	if err != nil {
		return fmt.Errorf("open a flow from %s: %w", from.addr, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f)
	l.opens = append(l.opens, time.Since(began))
	if overSSH {
		l.sessions++
	}
	return nil
}

// opened tells how many flows were opened, and how many of them are sessions of SSH.
func (l *liveFlows) opened() (flows, sessions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.opens), l.sessions
}

// endOldest ends the oldest living flows of a kind, as users do that go.
func (l *liveFlows) endOldest(overSSH bool, some int) {
	for _, f := range l.living() {
		if some > 0 && f.ssh == overSSH {
			f.close()
			some--
		}
	}
}

// close ends all flows.
func (l *liveFlows) close() {
	for _, f := range l.living() {
		f.close()
	}
}
