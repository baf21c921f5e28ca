package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// content is a disk's records, with the torn tail behind a stroke.
func content(d *Disk) string {
	var out []string
	for _, r := range d.Records() {
		out = append(out, string(r))
	}
	s := strings.Join(out, " ")
	if tail := d.Tail(); tail != nil {
		s += "|" + string(tail)
	}
	return s
}

func TestWritesAreDurableWhenDone(t *testing.T) {
	w := New(1)
	j := journal{w: w}
	d := w.NewDisk("disk", nil)
	d.SyncMin, d.SyncMax = 10*ms, 10*ms
	write := func(s string) func() {
		return func() {
			buf := []byte(s)
			d.Write(buf, func(err error) { j.say(fmt.Sprint(s, " ", err, ": ", content(d)))() })
			buf[0] = '?' // the bytes stay the caller's
		}
	}
	write("a")()
	w.At(ms, write("b")) // waits for a's fsync, and then shares one with c
	w.At(2*ms, write("c"))
	w.At(9*ms, func() {
		if got := content(d); got != "" {
			t.Errorf("durable before its fsync: %q", got)
		}
	})
	w.At(30*ms, func() {
		d.Replace([][]byte{[]byte("S"), []byte("T")}, func(error) { j.say("replaced: " + content(d))() })
		d.Write([]byte("d"), nil)
	})
	w.Run(time.Second)
	j.check(t, "a <nil>: a@10ms", "b <nil>: a b c@20ms", "c <nil>: a b c@20ms", "replaced: S T@40ms")
	if got := content(d); got != "S T d" {
		t.Errorf("content %q", got)
	}
	if c := d.Counts(); c.Syncs != 4 || c.Durable != 5 {
		t.Errorf("counts %+v", c)
	}
	d.Records()[0][0] = 'X'
	if got := content(d); got != "S T d" {
		t.Errorf("a reader changed the disk: %q", got)
	}
	d.Wipe()
	if got := content(d); got != "" {
		t.Errorf("after Wipe %q", got)
	}
}

func TestStalls(t *testing.T) {
	w := New(1)
	j := journal{w: w}
	d := w.NewDisk("disk", nil)
	write := func() { d.Write([]byte("x"), func(error) { j.say("done")() }) }
	d.SyncMin, d.SyncMax, d.StallP, d.StallFor = ms, ms, 1, 40*ms
	write()
	w.Run(100 * ms)
	d.StallP = 0
	d.Stall(30 * ms)
	write() // begins within the stall
	w.Run(200 * ms)
	write()
	d.Stall(50 * ms) // is under way when the stall begins
	w.Run(time.Second)
	write()
	d.Stall(time.Hour)
	w.Run(2 * time.Second)
	d.Resume()
	w.Run(3 * time.Second)
	d.Resume() // nothing to end
	j.check(t, "done@41ms", "done@130ms", "done@250ms", "done@2.001s")
	if got := d.Counts().Stalls; got != 4 {
		t.Errorf("%d stalls, want 4", got)
	}
}

// A crash leaves a prefix of what was written: all that was done, and of the
// rest every length down to the byte, with enough seeds. A Replace is whole.
func TestCrashLeavesAPrefix(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(2000) {
		w := New(seed)
		d := w.NewDisk("disk", nil)
		d.SyncMin, d.SyncMax = 10*ms, 10*ms
		d.Write([]byte("done"), nil)
		w.Run(15 * ms)
		called := false
		d.Write([]byte("abc"), func(error) { called = true })
		d.Write([]byte("de"), nil)
		d.Replace([][]byte{[]byte("snap")}, nil)
		d.Write([]byte("f"), nil)
		d.Crash()
		seen[content(d)]++
		d.Write([]byte("next"), nil) // cuts the torn tail off
		w.Run(time.Second)
		if called {
			t.Fatal("done was called after the crash")
		}
		if got := content(d); strings.Contains(got, "|") || !strings.HasSuffix(got, " next") {
			t.Fatalf("after the next write: %q", got)
		}
	}
	want := []string{"done", "done|a", "done|ab", "done abc", "done abc|d", "done abc de", "snap", "snap f"}
	var got []string
	for s, n := range seen {
		got = append(got, s)
		if n < 20 {
			t.Errorf("%q only %d times", s, n)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("a crash left\n%q, want\n%q", got, want)
	}
}

// A crash between the fsync's end and its answer keeps the record and takes the
// answer.
func TestCrashOfAPausedHost(t *testing.T) {
	w := New(1)
	clock := w.NewClock(0, 0)
	d := w.NewDisk("disk", clock)
	d.SyncMin, d.SyncMax = ms, ms
	late := 0
	d.Write([]byte("a"), func(error) { late++ })
	clock.Pause(10 * ms)
	w.Run(9 * ms)
	if got := content(d); got != "a" || late != 0 {
		t.Errorf("content %q, %d answers while paused", got, late)
	}
	w.Run(20 * ms)
	if late != 1 {
		t.Error("the answer did not come after the pause")
	}
	d.Write([]byte("b"), func(error) { t.Error("an answer to a dead process") })
	clock.Pause(10 * ms)
	w.Run(25 * ms)
	d.Crash()
	w.Run(time.Second)
	if got := content(d); got != "a b" {
		t.Errorf("content %q", got)
	}
}

func TestBrokenDisk(t *testing.T) {
	w := New(4)
	d := w.NewDisk("disk", nil)
	d.SyncMin, d.SyncMax = 10*ms, 10*ms
	j := journal{w: w}
	say := func(s string) func(error) {
		return func(err error) {
			if !errors.Is(err, ErrDiskBroken) {
				t.Errorf("%s: %v", s, err)
			}
			j.say(s)()
		}
	}
	d.Write([]byte("a"), say("a"))
	w.At(ms, d.Break)
	w.At(2*ms, func() { d.Write([]byte("b"), say("b")) })
	w.Run(time.Second)
	j.check(t, "a@1ms", "b@2ms")
	d.Crash()
	d.Write([]byte("c"), nil)
	w.Run(2 * time.Second)
	if got := content(d); got != "c" && got != "a c" {
		t.Errorf("content %q", got)
	}
}

func TestDiskQueueIsBounded(t *testing.T) {
	w := New(1)
	d := w.NewDisk("disk", nil)
	var refused error
	for range MaxDiskQueue {
		d.Write(nil, nil)
	}
	d.Write(nil, func(err error) { refused = err })
	w.Run(ms)
	if !errors.Is(refused, ErrDiskQueue) || len(d.Records()) != MaxDiskQueue {
		t.Errorf("refused %v, %d records", refused, len(d.Records()))
	}
}
