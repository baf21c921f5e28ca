package virtual

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"
)

// pair are two clients and the wire between them.
type pair struct {
	clock   *Clock
	ends    [2]*Client
	sent    int
	settler *Settler
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{clock: &Clock{}, settler: NewSettler()}
	t.Cleanup(Take())
	for i := range p.ends {
		c, err := NewClient(ClientConfig{
			Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)}), MTU: 1500,
			Clock: p.clock, Random: NewRandom(uint64(i)), Woken: func() {},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		p.ends[i] = c
	}
	return p
}

// run lets the time pass, with the wire whole or cut.
func (p *pair) run(d time.Duration, whole bool) {
	for at := time.Duration(0); at < d; at += 100 * ms {
		p.clock.Advance(p.clock.read()-epoch+100*ms, p.settler.Settle)
		for moved := true; moved; {
			p.settler.Settle()
			moved = false
			for i, c := range p.ends {
				for b := c.Take(); b != nil; b = c.Take() {
					moved = true
					p.sent++
					if whole {
						p.ends[1-i].Deliver(b)
					}
				}
			}
		}
	}
}

// A port where nobody listens says so, and silence ends in a time-out.
func TestDialNobody(t *testing.T) {
	p := newPair(t)
	n, err := p.ends[0].Dial(0, netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if done, err := n.Connected(); done || err != nil {
		t.Errorf("connected %v, %v before anything was sent", done, err)
	}
	p.run(time.Second, true)
	if _, err := n.Connected(); !errors.Is(err, ErrReset) {
		t.Errorf("a closed port: %v", err)
	}
	silent, err := p.ends[0].Dial(40_000, netip.MustParseAddrPort("10.0.0.2:80"))
	if err != nil || silent.Port() != 40_000 {
		t.Fatalf("port %d, %v", silent.Port(), err)
	}
	defer silent.Close()
	p.run(5*time.Minute, false)
	if _, err := silent.Connected(); err == nil || errors.Is(err, ErrReset) || errors.Is(err, io.EOF) {
		t.Errorf("silence ends with %v", err)
	}
	if _, err := p.ends[0].Dial(40_000, netip.MustParseAddrPort("10.0.0.2:80")); err == nil {
		t.Error("a port that a connection holds is given twice")
	}
}
