package sim

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// bustle is a world with something of everything.
func bustle(seed uint64, text *bytes.Buffer) uint64 {
	w := New(seed)
	if text != nil {
		w.TraceTo(text)
	}
	l, s := w.NewSwitch()
	s.TableSize = 3
	n := w.NewNet()
	n.Default = Link{DelayMin: ms, DelayMax: 5 * ms, Loss: 0.1, Dup: 0.1, Reorder: 0.1, HoldBack: 9 * ms, Corrupt: 0.1}
	for i := range 5 {
		clock := w.NewClock(w.between(0, time.Second), w.Rand().Int64N(200)-100)
		var p *Port
		p = l.Attach(fmt.Sprint("n", i), clock, func(f []byte) {
			if w.Rand().IntN(3) == 0 {
				p.Send(frame(byte('a'+w.Rand().IntN(5)), byte('a'+i), "answer"))
			}
		})
		p.Down = n.Default
		n.Attach(p.Name, clock, nil)
		var beat func()
		beat = func() {
			p.Send(frame('*', byte('a'+i), "beat"))
			n.Send(i, (i+1)%5, []byte("vote"))
			clock.After(20*ms, beat)
		}
		clock.After(0, beat)
		w.At(time.Duration(i)*100*ms, func() {
			clock.Pause(50 * ms)
			l.Partition([][]int{{i}, {(i + 1) % 5}}, true)
		})
	}
	w.At(800*ms, l.Heal)
	w.Run(2 * time.Second)
	return w.TraceHash()
}

func TestSameSeedSameTrace(t *testing.T) {
	var one, two bytes.Buffer
	a, b := bustle(5, &one), bustle(5, &two)
	if a != b || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Errorf("two runs of one seed differ: %x and %x", a, b)
	}
	if c := bustle(5, nil); c != a {
		t.Errorf("the hash is %x with text and %x without", a, c)
	}
	if d := bustle(6, nil); d == a {
		t.Error("another seed has the same trace")
	}
	if one.Len() < 10000 {
		t.Errorf("a text of only %d bytes", one.Len())
	}
}

func TestRecordIsInTheTrace(t *testing.T) {
	hash := func(lines ...string) uint64 {
		w := New(1)
		for _, s := range lines {
			who, what, _ := strings.Cut(s, " ")
			w.Record(who, what)
		}
		return w.TraceHash()
	}
	seen := map[uint64]string{}
	for _, lines := range [][]string{{}, {"n1 up"}, {"n1 down"}, {"n2 up"}, {"n1u p"}, {"n1 up", "n2 up"}, {"n2 up", "n1 up"}} {
		h := hash(lines...)
		if other, dup := seen[h]; dup {
			t.Errorf("%q and %s have one hash", lines, other)
		}
		seen[h] = fmt.Sprintf("%q", lines)
	}
}

func TestBytesAreInTheTrace(t *testing.T) {
	hash := func(text string) uint64 {
		w := New(1)
		l := w.NewHub()
		a := l.Attach("a", nil, nil)
		a.Send(frame('*', 'a', text))
		w.Run(ms)
		return w.TraceHash()
	}
	if hash("12345678x") == hash("12345678y") || hash("x2345678y") == hash("z2345678y") || hash("") == hash("\x00") {
		t.Error("different frames, one hash")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestTraceErr(t *testing.T) {
	w := New(1)
	w.TraceTo(brokenWriter{})
	w.Record("n1", "up")
	if w.TraceErr() == nil {
		t.Error("the writer's error is gone")
	}
}
