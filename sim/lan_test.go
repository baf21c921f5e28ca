package sim

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// rig is a LAN of hosts a, b, c, … whose names are also their addresses:
// 02:00:00:00:00:0a is a's.
type rig struct {
	t     *testing.T
	w     *World
	l     *LAN
	heard []string // "b" for what reached b, in order
	last  map[string][]byte
}

func newRig(t *testing.T, l *LAN, hosts int) *rig {
	r := &rig{t: t, w: l.w, l: l, last: map[string][]byte{}}
	for i := range hosts {
		name := string(rune('a' + i))
		l.Attach(name, nil, func(f []byte) {
			r.heard = append(r.heard, name)
			r.last[name] = f
		})
	}
	return r
}

func address(name byte) []byte {
	switch {
	case name == '*':
		return bytes.Repeat([]byte{0xff}, 6)
	case name >= 'A' && name <= 'Z': // a group
		return []byte{1, 0, 0x5e, 0, 0, name}
	case name == '!':
		return []byte{1, 0x80, 0xc2, 0, 0, 0x0e}
	case name == '?': // spanning tree's
		return []byte{1, 0x80, 0xc2, 0, 0, 0}
	}
	return []byte{2, 0, 0, 0, 0, name}
}

func frame(to, from byte, text string) []byte {
	f := append(append(address(to), address(from)...), 0x88, 0xb5)
	return append(f, text...)
}

// send sends "a>b": from the port and address a to address b; "a:x>b" from port
// a with source x. It returns who heard it.
func (r *rig) send(s string) string {
	r.heard = nil
	from, to, _ := strings.Cut(s, ">")
	port, src := from[0], from[len(from)-1]
	r.l.Ports()[port-'a'].Send(frame(to[0], src, "hello"))
	r.w.Run(r.w.Now() + time.Second)
	return strings.Join(r.heard, "")
}

func (r *rig) table(rows string) {
	r.t.Helper()
	for row := range strings.Lines(strings.TrimSpace(rows)) {
		f := strings.Fields(row)
		want := ""
		if len(f) > 1 {
			want = f[1]
		}
		if got := r.send(f[0]); got != want {
			r.t.Errorf("%s was heard by %q, want %q", f[0], got, want)
		}
	}
}

func TestHubRepeatsEverything(t *testing.T) {
	newRig(t, New(1).NewHub(), 4).table(`
		a>b  bcd
		b>a  acd
		a>a  bcd
		c>*  abd
		d>G  abc
		a>!  bcd
		a:G>b bcd`)
}

func TestSwitchLearns(t *testing.T) {
	l, s := New(1).NewSwitch()
	r := newRig(t, l, 4)
	r.table(`
		a>b  bcd
		b>a  a
		a>b  b
		c>b  b
		d>c  c
		a>d  d
		a>*  bcd
		a>G  bcd
		b>x  acd
		a>!
		a>a
		b:a>c c
		c>a  b
		a:G>b
		a>G  bcd
		a>?  bcd
		c>a  a`)
	if port, known := s.PortOf([6]byte(address('d'))); port != 3 || !known {
		t.Errorf("d is at port %d, known %v", port, known)
	}
	s.Forget()
	r.table(`
		c>a  abd`)
	c := l.Counts()
	for counter, want := range map[Counter]uint64{Sent: 18, DroppedReserved: 1, DroppedSamePort: 1, DroppedSource: 1, Flooded: 7} {
		if c[counter] != want {
			t.Errorf("%v %d, want %d", counter, c[counter], want)
		}
	}
}

func TestSwitchForgetsAfterAgeing(t *testing.T) {
	l, s := New(1).NewSwitch()
	s.Ageing = 10 * time.Second // each row takes a second
	r := newRig(t, l, 3)
	r.table(`
		a>*  bc
		b>a  a`)
	r.w.Run(r.w.Now() + 7*time.Second)
	r.table(`
		b>a  a
		b>a  ac`)
}

func TestSwitchWithAFullTable(t *testing.T) {
	l, s := New(1).NewSwitch()
	s.TableSize, s.Ageing = 2, 20*time.Second
	r := newRig(t, l, 4)
	r.table(`
		a>*  bcd
		b>*  acd
		c>*  abd
		a>c  bcd
		c>a  a
		b>a  a`)
	if got := l.Counts()[LearnedNot]; got != 2 {
		t.Errorf("%d addresses were not learned, want c twice", got)
	}
	r.w.Run(r.w.Now() + 19*time.Second) // a has aged, b has not
	r.table(`
		c>*  abd
		a>c  c`)
}

// A fault in the words of a table row, so that each is tried on its own and
// undone.
func TestPortFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     func(l *LAN, on bool)
		during  string
		counter Counter
		port    int
		want    uint64
	}{
		{"deaf", func(l *LAN, on bool) { l.Deafen(1, on) }, `
			a>* cd
			b>* acd`, DroppedDeaf, 1, 1},
		{"mute", func(l *LAN, on bool) { l.Mute(1, on) }, `
			a>* bcd
			b>*`, DroppedMute, 1, 1},
		{"unplugged", func(l *LAN, on bool) { l.Unplug(1, on) }, `
			a>* cd
			b>*`, DroppedUnplugged, 1, 2},
		{"cut one way", func(l *LAN, on bool) { l.Cut(0, 1, on) }, `
			a>* cd
			b>* acd`, DroppedCut, 1, 1},
		{"partition", func(l *LAN, on bool) { l.Partition([][]int{{0, 1}, {2}}, on) }, `
			a>* bd
			c>* d
			d>* abc`, DroppedPartition, 2, 1},
	} {
		l := New(1).NewHub()
		r := newRig(t, l, 4)
		c.set(l, true)
		c.set(l, true) // a second one, which ends later
		c.set(l, false)
		r.table(c.during)
		if got := l.PortCounts(c.port)[c.counter]; got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		c.set(l, false)
		c.set(l, false) // more often than it was set
		r.table(`
			a>* bcd
			b>* acd
			c>* abd`)
		c.set(l, true)
		r.table(c.during)
		l.Heal()
		r.table(`
			a>* bcd
			b>* acd`)
	}
}

func TestPairCounts(t *testing.T) {
	l := New(1).NewHub()
	r := newRig(t, l, 3)
	l.Cut(0, 1, true)
	l.Between(0, 2).Loss = 1
	r.table(`
		a>*
		b>* ac
		c>* ab`)
	if got := l.PairCounts(0, 1)[DroppedCut]; got != 1 {
		t.Errorf("cut %d", got)
	}
	if got := l.PairCounts(0, 2)[Lost]; got != 1 {
		t.Errorf("lost %d", got)
	}
	if got := l.PairCounts(2, 0); got != (Counts{}) {
		t.Errorf("a pair without faults counts %v", got)
	}
}

// A wrong bit is in the packet, never in the Ethernet header: what a switch and
// the receivers learn from that stays true.
func TestCorruptionSparesTheHeader(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	a := l.Attach("a", nil, nil)
	wrong, good := 0, frame('b', 'a', "x")
	b := l.Attach("b", nil, func(f []byte) {
		if !bytes.Equal(f[:MinFrame], good[:MinFrame]) {
			t.Errorf("header % x", f[:MinFrame])
		}
		if !bytes.Equal(f, good) {
			wrong++
		}
	})
	a.Up.Corrupt, b.Down.Corrupt, l.Between(0, 1).Corrupt = 1, 1, 1
	for range 300 {
		a.Send(good)
	}
	w.Run(time.Second)
	if wrong < 200 { // three wrong bits in eight can undo each other, seldom
		t.Errorf("%d frames of 300 were wrong", wrong)
	}
}

// numbered is a frame in which no single wrong bit makes another number of it.
func numbered(i int) []byte { return frame('b', 'a', fmt.Sprintf("%06d %06d", i, i)) }

// Each fault of a link strikes about as often as it says and is counted.
func TestLinkFaults(t *testing.T) {
	const n = 2000
	for _, c := range []struct {
		name  string
		link  Link
		count Counter
		lo    uint64
		hi    uint64
	}{
		{"loss", Link{Loss: 0.25}, Lost, 400, 600},
		{"dup", Link{Dup: 0.25, DelayMax: ms}, Duplicated, 400, 600},
		{"corrupt", Link{Corrupt: 0.25}, Corrupted, 400, 600},
		{"reorder", Link{Reorder: 0.25, HoldBack: 10 * ms}, Overtook, 1000, n},
		{"jitter keeps order", Link{DelayMin: ms, DelayMax: 50 * ms}, Overtook, 0, 0},
		{"queue", Link{BitsPerSecond: 1e6, QueueBytes: 1000}, DroppedQueue, n / 2, n},
	} {
		w := New(3)
		l := w.NewHub()
		a := l.Attach("a", nil, nil)
		var seq []int
		wrong := uint64(0)
		b := l.Attach("b", nil, func(f []byte) {
			var i int
			if _, err := fmt.Sscanf(string(f[14:]), "%06d", &i); err != nil || !bytes.Equal(f, numbered(i)) {
				wrong++
				return
			}
			seq = append(seq, i)
		})
		b.Down = c.link
		for i := range n {
			w.At(time.Duration(i)*ms/10, func() { a.Send(numbered(i)) })
		}
		w.Run(time.Minute)
		got := l.PortCounts(1)
		if got[c.count] < c.lo || got[c.count] > c.hi {
			t.Errorf("%s: %d, want %d to %d", c.name, got[c.count], c.lo, c.hi)
		}
		if want := n - got[Lost] - got[DroppedQueue] + got[Duplicated]; uint64(len(seq))+wrong != want || got[Delivered] != want {
			t.Errorf("%s: %d came and %d wrong of %d", c.name, len(seq), wrong, want)
		}
		if wrong != got[Corrupted] {
			t.Errorf("%s: %d frames were wrong, %d corrupted", c.name, wrong, got[Corrupted])
		}
		back := 0
		for i := 1; i < len(seq); i++ {
			if seq[i] < seq[i-1] {
				back++
			}
		}
		if (back > 0) != (c.name == "reorder" || c.name == "dup") {
			t.Errorf("%s: %d frames came after later ones", c.name, back)
		}
	}
}

func TestRateTakesItsTime(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	a := l.Attach("a", nil, nil)
	j := journal{w: w}
	l.Attach("b", nil, func([]byte) { j.say("b")() })
	a.Up.BitsPerSecond = 8_000_000 // a byte in a microsecond
	for range 3 {
		a.Send(make([]byte, 1000))
	}
	w.Run(time.Second)
	j.check(t, "b@1ms", "b@2ms", "b@3ms")
}

// What a link loses on the way up is lost for all; on the way down for one.
func TestUpIsSharedDownIsNot(t *testing.T) {
	l := New(1).NewHub()
	r := newRig(t, l, 4)
	l.Ports()[0].Up.Loss = 1
	l.Ports()[2].Down.Loss = 1
	r.table(`
		a>*
		b>* ad`)
	l.Heal()
	r.table(`
		a>* bcd`)
}

// A frame is its receiver's own: nobody else sees what is written into it.
func TestFramesAreNotShared(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	l.Tap = func(_ *Port, f []byte) {
		if f[14] != 'x' {
			t.Error("the sender's later change shows on the wire")
		}
	}
	a := l.Attach("a", nil, nil)
	a.Up.Dup = 1
	heard := 0
	for range 3 {
		p := l.Attach("b", nil, func(f []byte) {
			heard++
			if f[14] != 'x' {
				t.Error("another receiver's change shows")
			}
			f[14] = 'z'
		})
		p.Down.Dup = 1
	}
	f := frame('*', 'a', "x")
	a.Send(f)
	f[14] = 'y'
	w.Run(time.Second)
	if heard != 12 {
		t.Errorf("heard %d times, want 2 copies up, 3 hosts, 2 copies down", heard)
	}
}

func TestSizesAndFilter(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	a := l.Attach("a", nil, nil)
	heard := 0
	b := l.Attach("b", nil, func([]byte) { heard++ })
	b.Wants = func(f []byte) bool { return f[0] == 0xff }
	for _, n := range []int{0, MinFrame - 1, MinFrame, MaxFrame, MaxFrame + 1} {
		a.Send(bytes.Repeat([]byte{0xff}, n))
	}
	a.Send(frame('b', 'a', "unwanted"))
	b.Send(frame('a', 'b', "nobody listens at a"))
	w.Run(time.Second)
	if heard != 2 || l.PortCounts(0)[DroppedSize] != 3 || l.PortCounts(1)[UnwantedByFilter] != 1 || l.PortCounts(0)[DroppedNoHost] != 1 {
		t.Errorf("heard %d; %v", heard, l.Counts())
	}
}

func TestFramesWaitForAPausedHost(t *testing.T) {
	w := New(1)
	l := w.NewHub()
	a := l.Attach("a", nil, nil)
	clock := w.NewClock(0, 0)
	j := journal{w: w}
	var b *Port
	b = l.Attach("b", clock, func(f []byte) { j.say(string(f[14:]) + " of " + b.Arrived().String())() })
	b.Backlog = 2
	clock.Pause(10 * ms)
	for i := range 4 {
		w.At(time.Duration(i)*5*ms, func() { a.Send(frame('b', 'a', fmt.Sprint(i))) })
	}
	w.At(6*ms, func() { a.Send(frame('b', 'a', "too many")) })
	w.Run(time.Second)
	j.check(t, "0 of 0s@10ms", "1 of 5ms@10ms", "2 of 10ms@10ms", "3 of 15ms@15ms")
	if got := l.Counts()[DroppedBacklog]; got != 1 {
		t.Errorf("%d dropped, want 1", got)
	}
	// The death of the process empties its socket.
	j.got = nil
	clock.Pause(10 * ms)
	for range b.Backlog {
		a.Send(frame('b', 'a', "lost with the process"))
	}
	w.After(ms, clock.Reset)
	w.After(2*ms, func() {
		clock.Pause(ms)
		a.Send(frame('b', 'a', "new"))
	})
	w.Run(w.Now() + time.Second)
	j.check(t, "new of 1.002s@1.003s")
}
