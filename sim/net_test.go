package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func newNet(w *World, hosts int) (*Net, *journal) {
	n, j := w.NewNet(), &journal{w: w}
	for i := range hosts {
		n.Attach(fmt.Sprint("h", i), nil, func(from int, data []byte) { j.say(fmt.Sprintf("%d>%d %s", from, i, data))() })
	}
	return n, j
}

func TestNetDelivers(t *testing.T) {
	w := New(1)
	n, j := newNet(w, 3)
	n.Default.DelayMin, n.Default.DelayMax = 2*ms, 2*ms
	n.Between(0, 2).DelayMin = 5 * ms
	n.Send(0, 2, []byte("slow"))
	data := []byte("x")
	n.Send(0, 1, data)
	data[0] = 'y'
	n.Send(2, 2, []byte("self"))
	n.Send(1, 0, make([]byte, MaxDatagram+1))
	w.Run(time.Second)
	j.check(t, "0>1 x@2ms", "2>2 self@2ms", "0>2 slow@5ms")
	if n.PortCounts(1)[DroppedSize] != 1 {
		t.Errorf("counts %v", n.Counts())
	}
}

func TestNetFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     func(n *Net, on bool)
		want    string // what of 0>1, 1>0 and 0>2 arrives
		counter Counter
	}{
		{"deaf", func(n *Net, on bool) { n.Deafen(1, on) }, "1>0 0>2", DroppedDeaf},
		{"mute", func(n *Net, on bool) { n.Mute(1, on) }, "0>1 0>2", DroppedMute},
		{"unplugged", func(n *Net, on bool) { n.Unplug(1, on) }, "0>2", DroppedUnplugged},
		{"cut", func(n *Net, on bool) { n.Cut(0, 1, on) }, "1>0 0>2", DroppedCut},
		{"partition", func(n *Net, on bool) { n.Partition([][]int{{0}, {1, 2}}, on) }, "", DroppedPartition},
		{"loss", func(n *Net, on bool) { n.Default.Loss = map[bool]float64{true: 1}[on] }, "", Lost},
		{"loss of one pair", func(n *Net, on bool) { n.Between(0, 1).Loss = map[bool]float64{true: 1}[on] }, "1>0 0>2", Lost},
	} {
		w := New(1)
		n, j := newNet(w, 3)
		trial := func() string {
			j.got = nil
			n.Send(0, 1, nil)
			n.Send(1, 0, nil)
			n.Send(0, 2, nil)
			w.Run(w.Now() + time.Second)
			for i := range j.got {
				j.got[i], _, _ = strings.Cut(j.got[i], " @")
			}
			return strings.Join(j.got, " ")
		}
		c.set(n, true)
		if got := trial(); got != c.want {
			t.Errorf("%s: %q arrived, want %q", c.name, got, c.want)
		}
		if n.Counts()[c.counter] == 0 {
			t.Errorf("%s was not counted: %v", c.name, n.Counts())
		}
		c.set(n, false)
		if got := trial(); got != "0>1 1>0 0>2" {
			t.Errorf("after %s: %q arrived", c.name, got)
		}
		c.set(n, true)
		n.Heal()
		if got := trial(); got != "0>1 1>0 0>2" {
			t.Errorf("healed of %s: %q arrived", c.name, got)
		}
	}
}

func TestDatagramsWaitForAPausedHost(t *testing.T) {
	w := New(1)
	n := w.NewNet()
	clock := w.NewClock(0, 0)
	j := journal{w: w}
	h := n.Attach("h", clock, func(_ int, data []byte) { j.say(string(data))() })
	h.Backlog = 1
	n.Attach("silent", nil, nil)
	clock.Pause(10 * ms)
	n.Send(1, 0, []byte("a"))
	n.Send(1, 0, []byte("b"))
	n.Send(0, 1, []byte("c"))
	w.Run(time.Second)
	j.check(t, "a@10ms")
	if c := n.Counts(); c[DroppedBacklog] != 1 || c[DroppedNoHost] != 1 || c[Delivered] != 1 {
		t.Errorf("counts %v", c)
	}
}
