package responder

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowNeighbours is Neighbours' table the obvious way: a list, newest first.
type slowNeighbours struct {
	bound int
	rows  []slowRow
}

type slowRow struct {
	addr netip.Addr
	mac  MAC
	at   time.Duration
}

func (s *slowNeighbours) take(a netip.Addr) (slowRow, bool) {
	for i, r := range s.rows {
		if r.addr == a {
			s.rows = append(s.rows[:i:i], s.rows[i+1:]...)
			return r, true
		}
	}
	return slowRow{}, false
}

func (s *slowNeighbours) put(r slowRow) { s.rows = append([]slowRow{r}, s.rows...) }

func (s *slowNeighbours) learn(now time.Duration, a netip.Addr, m MAC) {
	if _, known := s.take(a); !known {
		if last := len(s.rows) - 1; last >= 0 && now-s.rows[last].at > NeighbourAge {
			s.rows = s.rows[:last]
		}
		if len(s.rows) == s.bound {
			s.rows = s.rows[:s.bound-1]
		}
	}
	s.put(slowRow{a, m, now})
}

func (s *slowNeighbours) lookup(now time.Duration, a netip.Addr) (MAC, bool) {
	r, known := s.take(a)
	if !known || now-r.at > NeighbourAge {
		return MAC{}, false
	}
	s.put(r)
	return r.mac, true
}

// TestNeighboursAgainstTheObvious compares every answer with a second table and
// checks every frame that leaves, over random histories.
func TestNeighboursAgainstTheObvious(t *testing.T) {
	pool := []netip.Addr{clientAddr, gatewayAddr, farAddr, vipAddr, ownAddr, addr("10.77.0.102"), addr("10.77.0.103"),
		addr("198.51.100.9"), addr("10.77.0.255")}
	macs := []MAC{clientMAC, peerMAC, gatewayMAC, clusterMAC, ownMAC, {}, Broadcast(), unicastMAC}
	// Steps around every span that has a meaning here.
	steps := []time.Duration{0, 0, 0, 1, AskEvery / 2, AskEvery, AnswerWithin, NeighbourAge / 2, NeighbourAge - 1, NeighbourAge}
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.IntRange(1, 4).Draw(t, "bound")
		n, err := NewNeighbours(ownMAC, ownAddr, lan, gatewayAddr, vips(), bound)
		if err != nil {
			t.Fatal(err)
		}
		slow := &slowNeighbours{bound: bound}
		now, asked := time.Duration(0), map[netip.Addr]time.Duration{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += rapid.SampledFrom(steps).Draw(t, "later")
			a, m := rapid.SampledFrom(pool).Draw(t, "addr"), rapid.SampledFrom(macs).Draw(t, "mac")
			can := a != vipAddr && a != ownAddr && a != addr("10.77.0.255") &&
				(m == clientMAC || m == peerMAC || m == gatewayMAC)
			switch rapid.SampledFrom([]string{"learn", "next", "ask", "answer"}).Draw(t, "what") {
			case "learn":
				if n.Learn(now, a, m) != can {
					t.Fatalf("Learn(%v, %v) = %v", a, m, !can)
				}
				if can {
					slow.learn(now, a, m)
				}
			case "next":
				want, ok := slow.lookup(now, a)
				if !ok && !lan.Contains(a) {
					want, ok = slow.lookup(now, gatewayAddr)
				}
				if got, gotOK := n.Next(now, a); got != want || gotOK != ok {
					t.Fatalf("Next(%v) = %v, %v, want %v, %v", a, got, gotOK, want, ok)
				}
			case "ask":
				target := a
				if !lan.Contains(a) {
					target = gatewayAddr
				}
				if f := n.Ask(now, a); f != nil {
					if _, known := slow.lookup(now, target); known {
						t.Fatalf("asked for %v, which is known", target)
					}
					last, again := asked[target]
					if again && now-last < AskEvery {
						t.Fatalf("asked for %v again after %v", target, now-last)
					}
					asked[target] = now
					if netip.AddrFrom4([4]byte(f[38:42])) != target {
						t.Fatalf("asked for another than %v: %x", target, f)
					}
					checkEmittedBy(t, f)
				} else {
					slow.lookup(now, target)
				}
			case "answer":
				at, waiting := asked[a]
				want := can && waiting && now-at <= AnswerWithin
				if n.Answer(now, a, m) != want {
					t.Fatalf("Answer(%v, %v) = %v", a, m, !want)
				}
				if want {
					delete(asked, a)
					slow.learn(now, a, m)
				}
			}
		}
	})
}

// checkEmittedBy is checkEmitted for a property test.
func checkEmittedBy(t *rapid.T, f []byte) {
	if len(f) != 60 || MAC(f[0:6]) != Broadcast() || MAC(f[6:12]) != ownMAC || f[21] != 1 ||
		MAC(f[22:28]) != ownMAC || netip.AddrFrom4([4]byte(f[28:32])) != ownAddr || !MAC(f[32:38]).IsZero() {
		t.Fatalf("request %x does not name this node alone", f)
	}
}
