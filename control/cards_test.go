package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// cardTown is a town whose first hosts have cards.
func cardTown(t *testing.T, n, with int) *town {
	return newTunedTown(t, n, func(i int, _ *looped, cfg *LoopConfig) {
		if i >= with {
			return
		}
		cfg.WallClock = func() time.Duration { return time.Duration(i) * time.Hour }
		cfg.Evidence = func() Evidence { return Evidence{Flows: 10 + i} }
		cfg.Card = func(bool) Card {
			return Card{Version: fmt.Sprintf("v%d", i), MTU: map[string]int{"eth0": 1500}, HostKeys: map[string][]string{"ssh": {"ssh-ed25519 SHA256:x"}}}
		}
	})
}

func (w *town) examine(i int) (out Examined) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := w.hosts[i].loop.Examine(ctx)
	if err != nil || ctx.Err() != nil {
		w.t.Fatal(err, ctx.Err(), out)
	}
	return out
}

// Hosts tell each other of themselves, and send frames to the shared MAC when they are
// asked: those who hear them count.
func TestHostsTellOfThemselves(t *testing.T) {
	w := cardTown(t, 2, 2)
	w.until("a cold start", all(0, 1))
	got := w.examine(0)
	if len(got.Cards) != 1 || len(got.Probes) != 1 || len(got.Silent) != 0 {
		t.Fatalf("%+v", got)
	}
	if got.Own == nil || got.Own.Version != "v0" {
		t.Errorf("its own card is %+v", got.Own)
	}
	c, p := got.Cards[0], got.Probes[0]
	if c.Card.Version != "v1" || c.Card.HostKeys["ssh"][0] != "ssh-ed25519 SHA256:x" || len(c.Card.Hears) != 1 || c.Ahead != 3600 || c.Over != 0 {
		t.Errorf("%+v", c)
	}
	if c.Card.Flows == nil || *c.Card.Flows != 11 {
		t.Errorf("it tells of %v flows", c.Card.Flows)
	}
	if want := (Probe{c.ID, p.Path, probeFrames, probeFrames, probeFrames, probeFrames, 1500}); p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	// Asked again at once, it has heard what it had heard, and asks nobody.
	if again := w.examine(0); again.Probes[0] != p {
		t.Errorf("%+v", again.Probes)
	}
	// What keeps long frames back is seen by who asks, and by nobody else.
	w.hosts[1].device.most.Store(1000)
	ctx, cancel := context.WithCancel(context.Background())
	w.until("the answer is there", func(map[int]int) bool {
		short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
		defer stop()
		out, err := w.hosts[1].loop.Examine(short)
		return err == nil && len(out.Probes) == 1 && out.Probes[0].ShortHeard == probeFrames && out.Probes[0].LongHeard == 0 && out.Probes[0].Long == probeFrames
	})
	cancel()
}

// Who asks without end is answered once a second, and who is no member never.
func TestAskedTooOften(t *testing.T) {
	w := cardTown(t, 2, 2)
	w.until("a cold start", all(0, 1))
	w.examine(0)
	id := w.hosts[0].loop.Core.ID()
	err := w.hosts[1].loop.Call(func(now time.Duration) {
		c := w.hosts[1].loop.cards
		sent := func() uint64 { return w.hosts[1].loop.Transport.Counts().NoAddress }
		before, counts := sent(), c.counts
		c.answered[id] = now - probeAgain + 1
		c.take(now, id, []byte(`{"ask":7}`))
		c.take(now, 77, []byte(`{"ask":7}`))
		c.take(now, id, []byte(`{"ask":`))
		if c.counts.Ignored != counts.Ignored+2 || c.counts.Bad != counts.Bad+1 || len(c.asked) != 0 || sent() != before {
			t.Errorf("%+v, %d asked", c.counts, len(c.asked))
		}
		c.take(now+2, id, []byte(`{"ask":7}`))
		if len(c.asked) != 1 || c.asked[id].Answer != 7 || c.asked[id].Sent[0].Long != probeFrames {
			t.Errorf("%+v", c.asked)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A host that has nothing to tell, as one of an older version, is named as silent.
func TestSilentHost(t *testing.T) {
	w := cardTown(t, 2, 1)
	w.until("a cold start", all(0, 1))
	over, cancel := context.WithCancel(context.Background())
	cancel()
	got, err := w.hosts[0].loop.Examine(over)
	if err != nil || len(got.Silent) != 1 || len(got.Probes) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := w.hosts[1].loop.Examine(context.Background()); err != nil || len(got.Cards)+len(got.Silent) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCardsAreBounded(t *testing.T) {
	full := Card{MTU: map[string]int{}, HostKeys: map[string][]string{}}
	for i := range maxCardEntries {
		full.MTU[fmt.Sprint("eth", i)] = 1500
	}
	whole, err := (&cardMessage{Card: &full}).encode()
	if m, ok := readCardMessage(whole); err != nil || !ok || len(m.Card.MTU) != maxCardEntries {
		t.Errorf("a card with as many entries as may be: %v, %v", ok, err)
	}
	full.MTU["one more"] = 1
	much, _ := json.Marshal(cardMessage{Card: &full})
	for name, b := range map[string][]byte{
		"too many entries": much,
		"too many paths":   []byte(`{"answer":1,"sent":[` + strings.Repeat("{},", maxCardEntries) + `{}]}`),
		"too long":         []byte(`{"card":{"version":"` + strings.Repeat("x", MaxCardBytes) + `"}}`),
		"a wrong type":     []byte(`{"card":{"mtu":7}}`),
		"nothing":          nil,
	} {
		if _, ok := readCardMessage(b); ok {
			t.Errorf("%s: taken", name)
		}
	}
	if m, ok := readCardMessage([]byte(`{"colour":"red","card":{"version":"9","moon":{"phase":1}}}`)); !ok || m.Card.Version != "9" {
		t.Errorf("what a newer version tells besides: %+v, %v", m, ok)
	}
	if _, err := (&cardMessage{Card: &Card{Version: strings.Repeat("x", MaxCardBytes)}}).encode(); err == nil {
		t.Error("a card that nobody would read was made")
	}
}

// Rates of clocks are compared when enough time has passed that delays do not count.
func TestClockRates(t *testing.T) {
	at := func(boot, ours time.Duration) heardCard {
		return heardCard{card: Card{Boot: int64(boot)}, at: ours}
	}
	first := at(time.Hour, 5*time.Second).follow(nil)
	soon := at(time.Hour+rateOver, 4*time.Second+rateOver).follow(&first)
	if s := soon.status(1, soon.at); s.Over != 0 {
		t.Errorf("compared after %v s", s.Over)
	}
	late := at(time.Hour+1001*time.Second, 1005*time.Second).follow(&soon)
	if s := late.status(1, late.at); s.Over != 1000 || s.Faster < 999 || s.Faster > 1001 {
		t.Errorf("%v ppm over %v s", s.Faster, s.Over)
	}
	restarted := at(time.Second, 1010*time.Second).follow(&late)
	if s := restarted.status(1, restarted.at+rateOver); s.Over != 0 {
		t.Errorf("the clock of another boot is compared: %+v", s)
	}
}
