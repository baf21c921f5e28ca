package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// loadFlows are the flows of a load.
type loadFlows struct {
	addresses []from
	pattern   []byte
	// moved are bytes by nodes; the map stays as it is.
	moved map[string]*atomic.Uint64
	// turns are the buffers of transfers: whoever has one may transfer.
	turns chan []byte
	// every is how often a flow beats that has nothing else to do.
	every time.Duration
	stop  chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex
	all      []*loadFlow
	broken   int
	breaches []string
}

// newPattern is what is sent, a part of it at a time, and wanted back.
func newPattern() []byte {
	p := make([]byte, 2*loadChunkBytes)
	for i := range p {
		// Not the same at any two places that a short beat may begin at.
		p[i] = byte(i * i >> 3)
	}
	return p
}

// loadOpensAtOnce bounds how many flows are opened at the same time.
const loadOpensAtOnce = 64

func newLoadFlows(lan *LAN) *loadFlows {
	l := &loadFlows{addresses: clientAddresses(lan), pattern: newPattern(), moved: map[string]*atomic.Uint64{},
		turns: make(chan []byte, loadTransfers), every: loadBeatEvery, stop: make(chan struct{})}
	for _, h := range lan.Nodes() {
		l.moved[h.Name] = &atomic.Uint64{}
	}
	return l
}

// open opens the flows, from one address after the other.
func (l *loadFlows) open(ctx context.Context, n *narrator, want int) error {
	var failed error
	var wg sync.WaitGroup
	slots := make(chan struct{}, loadOpensAtOnce)
	for i := range want {
		slots <- struct{}{}
		if ctx.Err() != nil || l.hasFailed(&failed) {
			break
		}
		if i%loadOpensAtOnce == 0 {
			n.progress("%d of %s open", i, count(want, "flow"))
		}
		wg.Go(func() {
			defer func() { <-slots }()
			f, err := openLoadFlow(l.addresses[i%len(l.addresses)])
			if err == nil && l.moved[f.node] == nil {
				err = fmt.Errorf("it is served by %q, and no node has that name", f.node)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				failed = fmt.Errorf("open flow %d of %d: %w", i+1, want, err)
				return
			}
			f.moved = l.moved[f.node]
			l.all = append(l.all, f)
		})
	}
	wg.Wait()
	return errors.Join(failed, ctx.Err())
}

func (l *loadFlows) hasFailed(err *error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *err != nil
}

// start lets them work until finish.
func (l *loadFlows) start() {
	for range loadTransfers {
		l.turns <- make([]byte, loadChunkBytes)
	}
	for i, f := range l.all {
		l.wg.Add(1)
		go l.run(f, time.Duration(i)*l.every/time.Duration(len(l.all)))
	}
}

// run is the goroutine `lab.loadFlows.run`, one for each flow; it ends with
// finish, or with its flow. At the end each flow has to work once more.
func (l *loadFlows) run(f *loadFlow, first time.Duration) {
	defer l.wg.Done()
	beat := make([]byte, beatBytes)
	timer := time.NewTimer(first)
	defer timer.Stop()
	var err error
	for stopped := false; err == nil && !stopped; {
		select {
		case <-l.stop:
			stopped = true
			// Not all at once: that would be another load than the one that ends.
			<-timer.C
			err = f.exchange(l.pattern, beat)
		case <-timer.C:
			err = f.exchange(l.pattern, beat)
			timer.Reset(l.every)
		case buffer := <-l.turns:
			err = f.transfer(l.pattern, buffer)
			l.turns <- buffer
		}
	}
	if err != nil {
		l.breach(f, err)
	}
}

// breach notes a flow that was broken.
func (l *loadFlows) breach(f *loadFlow, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken++; len(l.breaches) < MaxBreaches {
		l.breaches = append(l.breaches, fmt.Sprintf("%s: %s was broken: %v", time.Now().Format(time.TimeOnly), f, err))
	}
}

// soFar is what was moved and how many flows were broken.
func (l *loadFlows) soFar() (bytes uint64, broken int) {
	for _, n := range l.moved {
		bytes += n.Load()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes, l.broken
}

// finish waits until every flow has shown that it still works.
func (l *loadFlows) finish() {
	close(l.stop)
	l.wg.Wait()
}

// tally puts what came of the flows into a result.
func (l *loadFlows) tally(r *LoadResult) {
	r.Bytes, r.Broken = l.soFar()
	r.Breaches = append(r.Breaches, l.breaches...)
	for _, f := range l.all {
		r.FlowsOf[f.node]++
	}
	for name, n := range l.moved {
		r.BytesOf[name] = n.Load()
	}
}

// close ends all flows.
func (l *loadFlows) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.all {
		// It may have been reset already.
		_ = f.conn.Close()
	}
}
