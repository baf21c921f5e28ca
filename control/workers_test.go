package control

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/config"
	"onevoice/internal/page"
	"onevoice/node"
)

// workersOf are workers whose process is a shell's script.
func workersOf(t *testing.T, script string) WorkersConfig {
	t.Helper()
	return WorkersConfig{
		Settings: testSettings(t),
		Command:  func() *exec.Cmd { return exec.Command("sh", "-c", script) },
		Clock:    testClock,
		Log:      slog.New(slog.DiscardHandler),
	}
}

// A worker that cannot begin is a sentence, and nothing is left of it.
func TestWorkerThatDoesNotBegin(t *testing.T) {
	for _, c := range []struct{ name, script, says string }{
		{"ends at once", "exit 3", "the worker did not begin"},
		{"no packet", `printf '' >&3`, "the worker did not begin"},
		{"garbage", `printf hello >&3; cat >/dev/null <&3`, "makes no sense"},
		{"no settings", `printf '\000{"type":"ready","body":{}}' >&3; cat >/dev/null <&3`, "settings"},
		{"an answer", `printf '\000{"type":"answer","body":{}}' >&3; cat >/dev/null <&3`, `"answer" of a worker that begins`},
		{"its own words", `printf '\000{"type":"failed","body":{"Error":"no such interface"}}' >&3; cat >/dev/null <&3`, "no such interface"},
	} {
		before := descriptors(t)
		w, err := StartWorkers(workersOf(t, c.script))
		if err == nil || !strings.Contains(err.Error(), c.says) || w != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors, before %d", c.name, after, before)
		}
	}
	cfg := workersOf(t, "")
	cfg.Command = func() *exec.Cmd { return exec.Command("/nonexistent") }
	if _, err := StartWorkers(cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}

// A worker that ends again and again is started again, after longer and longer
// times, and not after Stop.
func TestBackOff(t *testing.T) {
	before := descriptors(t)
	began := time.Now()
	w, err := StartWorkers(workersOf(t, `dd bs=100000 count=1 <&3 >/dev/null 2>&1; printf '\000{"type":"ready","body":{"Settings":{"Config":{}}}}' >&3`))
	if err != nil {
		t.Fatal(err)
	}
	soonest := time.Duration(0)
	for n, backOff := 0, minBackOff; n < 4; {
		select {
		case r := <-w.Reports():
			if !r.Started {
				continue
			}
		case <-time.After(patience):
			t.Fatalf("no start after %d", n)
		}
		if took := time.Since(began); took < soonest {
			t.Errorf("start %d after %s, want at least %s", n, took, soonest)
		}
		soonest += backOff
		backOff *= 2
		n++
	}
	w.Stop(0)
	if err := w.Wait(); err != nil {
		t.Error(err)
	}
	for len(w.Reports()) > 0 {
		if r := <-w.Reports(); r.Started {
			t.Error("a start after Stop")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

// served are Workers with workers of this test's making, without processes.
func served(t *testing.T, retired ...bool) (*Workers, []*worker) {
	t.Helper()
	settings := testSettings(t)
	w := &Workers{
		cfg:   WorkersConfig{Settings: settings, Clock: func() time.Duration { return time.Hour }, Log: slog.New(slog.DiscardHandler)},
		paths: len(settings.paths()), leases: make([]page.Lease, 1), reports: make(chan Report, maxReports), stop: make(chan struct{}),
		ownership: &node.Ownership{VIPs: make([]node.Rows, 1), Services: make([]node.Rows, 1)},
	}
	for i, r := range retired {
		one, err := newWorker(0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { one.close() })
		one.pid, one.retired, one.vips, one.services = i, r, 2, 3
		w.all = append(w.all, one)
	}
	return w, w.all
}

// worksAs opens the worker's side of a page.
func worksAs(t *testing.T, one *worker) *page.Worker {
	t.Helper()
	p, err := page.Open(int(one.page.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func bits(buckets ...uint8) (b node.Bitmap) {
	for _, i := range buckets {
		b.Set(i)
	}
	return b
}

// What is published reaches each worker as its part has it: beside a retired one
// everything is shared, and the retired one drains.
func TestPublishedByPart(t *testing.T) {
	o := &node.Ownership{Generation: 4, VIPs: []node.Rows{{Accept: bits(1)}}, Services: []node.Rows{{Accept: bits(2), Grace: bits(3), Shared: bits(4), Draining: bits(5)}}}
	m := Mappings{VIPs: []page.Mapping{{Generation: 8}}, Services: []page.Mapping{{Generation: 9, Key: [16]byte{1}, Affinity: 2}}}
	for _, beside := range []bool{false, true} {
		var retired []bool
		if beside {
			retired = []bool{true}
		}
		w, all := served(t, retired...)
		active, err := newWorker(0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { active.close() })
		w.all = append(all, active)
		if err := w.Publish(o, m); err != nil {
			t.Fatal(err)
		}
		got := worksAs(t, active).Table()
		shared := page.Bitmap(bits(4))
		if beside {
			shared = every()
		}
		row := got.Services[0]
		if got.Generation != 4 || row.Accept != page.Bitmap(bits(2)) || row.Grace != page.Bitmap(bits(3)) || row.Shared != shared || row.Draining != page.Bitmap(bits(5)) ||
			row.Mapping != m.Services[0] || got.VIPs[0].Accept != page.Bitmap(bits(1)) || got.VIPs[0].Mapping != m.VIPs[0] {
			t.Errorf("beside a retired one %v: %+v", beside, got)
		}
		if !beside {
			continue
		}
		old := worksAs(t, all[0]).Table()
		if len(old.VIPs) != 2 || len(old.Services) != 3 || old.VIPs[0] != (page.Row{}) || old.Services[2] != (page.Row{Draining: every()}) {
			t.Errorf("a retired worker gets %+v", old)
		}
		w.remove(all[0])
		if got := worksAs(t, active).Table(); got.Services[0].Shared != page.Bitmap(bits(4)) {
			t.Error("without the retired one everything is still shared")
		}
	}
	w, _ := served(t)
	for _, bad := range []*node.Ownership{{}, {VIPs: make([]node.Rows, 2), Services: make([]node.Rows, 1)}, {VIPs: make([]node.Rows, 1), Services: make([]node.Rows, 2)}} {
		if err := w.Publish(bad, m); err == nil {
			t.Errorf("an ownership of %d VIPs and %d services was taken", len(bad.VIPs), len(bad.Services))
		}
	}
}

// A generation is in force when the slowest has it, and what is held is what
// anybody holds.
func TestWhatAllWorkersSay(t *testing.T) {
	w, _ := served(t)
	w.ownership.Generation = 7
	if w.WrittenBack() != 7 || w.Beat() != node.Forever || w.Holding().Generation != 7 || w.Frames() != 0 || w.Unsent() != 0 {
		t.Error("without a worker nothing answers, and there is nothing to wait for")
	}
	w, all := served(t, false, true)
	w.ownership.Generation = 7
	worksAs(t, all[0]).Turned(time.Hour-time.Second, 7, 2, 40, 60)
	if got := w.WrittenBack(); got != 0 {
		t.Errorf("written back %d, and a worker has not yet", got)
	}
	worksAs(t, all[1]).Turned(time.Hour, 6, 3, 50, 70)
	if w.WrittenBack() != 6 || w.Beat() != time.Second || w.Flows() != 5 || w.Frames() != 40 || w.Unsent() != 60 {
		t.Errorf("written back %d, beat %s, flows %d, frames %d", w.WrittenBack(), w.Beat(), w.Flows(), w.Frames())
	}
	all[1].unusable = true
	if w.WrittenBack() != 7 {
		t.Errorf("a worker without a page is waited for")
	}

	w, all = served(t, false, false)
	w.ownership.Generation = 7
	w.told(all[0], Holding{Generation: 7, Services: []node.Bitmap{bits(1)}})
	if h := w.Holding(); h.Generation != 0 {
		t.Errorf("%+v before all have told", h)
	}
	w.told(all[1], Holding{Generation: 5, Services: []node.Bitmap{bits(200)}})
	if h := w.Holding(); h.Generation != 5 || h.Services[0] != bits(1, 200) {
		t.Errorf("together %+v", h)
	}
	all[0].retired = true
	if h := w.Holding(); h.Services[0] != node.Bitmap(every()) {
		t.Errorf("beside a retired one %+v", h)
	}
	for range maxReports {
		w.told(all[0], Holding{})
	}
	if w.ReportsLost() != 2 {
		t.Errorf("%d reports lost, want 2", w.ReportsLost())
	}
}

// wiredWorker is a worker that began at a time, without a process, and the end of its
// wire that would be the process's.
func wiredWorker(t *testing.T, at time.Duration) (*worker, *os.File) {
	t.Helper()
	one, err := newWorker(at)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := wirePair()
	if err != nil {
		t.Fatal(err)
	}
	one.wire = ours
	return one, theirs
}

// A lease reaches every worker, and those that come later.
func TestLeaseReachesAll(t *testing.T) {
	w, all := served(t, false, true)
	w.SetLease(0, 1, 2)
	w.SetLease(1, 3, 4)
	w.SetLease(-1, 3, 4)
	for i, one := range all {
		var l page.Lease
		if p := worksAs(t, one); !p.Lease(0, &l) || l.Begin != 1 || l.End != 2 || !p.Lease(1, &l) || l.End != 0 {
			t.Errorf("worker %d: %+v", i, l)
		}
	}
	one, theirs := wiredWorker(t, 0)
	w.add(one)
	var l page.Lease
	if p := worksAs(t, one); !p.Lease(0, &l) || l.End != 2 {
		t.Errorf("a worker that came later: %+v", l)
	}
	theirs.Close()
	<-one.gone
	w.tending.Wait()
	if r := <-w.Reports(); !r.Ended || len(w.all) != 2 {
		t.Errorf("after its end: %+v, %d workers", r, len(w.all))
	}
}

// VIPs with one cluster MAC share a path.
func TestPaths(t *testing.T) {
	s := testSettings(t)
	again := s.Config.VIPs[0]
	other := again
	other.MAC = slices.Clone(other.MAC)
	other.MAC[5]++
	for _, c := range []struct {
		vips []config.VIP
		want int
	}{{s.Config.VIPs, 1}, {[]config.VIP{again, again}, 1}, {[]config.VIP{again, other, again}, 2}} {
		s.Config.VIPs = c.vips
		if got := len(s.paths()); got != c.want {
			t.Errorf("%d paths of %d VIPs, want %d", got, len(c.vips), c.want)
		}
	}
}
