package page

import (
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// both are the two sides of one page, each with a mapping of its own.
func both(t *testing.T) (*Control, *Worker) {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	w, err := Open(int(c.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, w
}

// tableOf is a table of random rows.
func tableOf(generation uint64, vips, services int) *Table {
	r := rand.New(rand.NewPCG(generation, 0))
	t := &Table{Generation: generation, Elsewhere: generation%2 == 1, VIPs: make([]Row, vips), Services: make([]Row, services)}
	for _, rows := range [][]Row{t.VIPs, t.Services} {
		for i := range rows {
			for _, b := range []*Bitmap{&rows[i].Accept, &rows[i].Grace, &rows[i].Shared, &rows[i].Draining} {
				for k := range b {
					b[k] = r.Uint64()
				}
			}
			rows[i].Mapping = Mapping{Generation: r.Uint64(), Affinity: uint8(r.Uint32())}
			for k := range rows[i].Mapping.Key {
				rows[i].Mapping.Key[k] = byte(r.Uint32())
			}
		}
	}
	return t
}

func TestWhatOneSideWritesTheOtherReads(t *testing.T) {
	c, w := both(t)
	var l Lease
	if w.Table() != nil || !w.Lease(0, &l) || l != (Lease{}) || c.WrittenBack() != 0 || c.WorkerBeat() != 0 {
		t.Error("a new page is not empty")
	}
	before, generation := w.Edition(), uint64(0)
	for _, size := range [][2]int{{1, 1}, {16, 64}, {0, 0}, {16, MaxRows - 16}} {
		generation = uint64(7 + size[1])
		want := tableOf(generation, size[0], size[1])
		if err := c.Publish(want); err != nil {
			t.Fatal(err)
		}
		if w.Edition() == before {
			t.Errorf("%v: nothing tells that there is another table", size)
		}
		before = w.Edition()
		if got := w.Table(); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: another table came back", size)
		}
	}
	if err := c.Publish(tableOf(99, 16, MaxRows-15)); !errors.Is(err, errTooManyRows) {
		t.Errorf("a row too many: %v", err)
	}
	for path := range MaxPaths {
		c.SetLease(path, time.Duration(path), time.Hour)
	}
	for path := range MaxPaths {
		want := Lease{Begin: time.Duration(path), End: time.Hour, Generation: generation}
		if !w.Lease(path, &l) || l != want {
			t.Errorf("path %d: %+v, want %+v", path, l, want)
		}
	}
	c.Beat(3 * time.Second)
	w.Turned(5*time.Second, 11, 42, 43, 44)
	if w.ControlBeat() != 3*time.Second || c.WorkerBeat() != 5*time.Second || c.WrittenBack() != 11 || c.Flows() != 42 || c.Frames() != 43 || c.Unsent() != 44 {
		t.Error("a beat, a generation or a count was lost")
	}
}

// A reader never sees half of a table or of a lease, however it meets the
// writer.
func TestNobodySeesHalf(t *testing.T) {
	c, w := both(t)
	const rounds = 2000
	done := make(chan struct{})
	// The page is not to go away under the writer.
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for g := uint64(1); g <= rounds; g++ {
			// Rows and counts follow from the generation.
			if err := c.Publish(tableOf(g, int(g%3), int(g%5))); err != nil {
				t.Error(err)
			}
			c.SetLease(0, time.Duration(g), time.Duration(2*g))
			runtime.Gosched()
		}
	}()
	var l Lease
	for seen := uint64(0); seen < rounds; {
		w.Lease(0, &l)
		if l.End != 2*l.Begin || l.Generation != uint64(l.Begin) {
			t.Fatalf("half a lease: %+v", l)
		}
		got := w.Table()
		if got == nil {
			continue
		}
		// The table is read after the lease, so it is never older.
		if got.Generation < l.Generation || got.Generation < seen {
			t.Fatalf("table %d after lease %d and table %d", got.Generation, l.Generation, seen)
		}
		seen = got.Generation
		if !reflect.DeepEqual(got, tableOf(seen, int(seen%3), int(seen%5))) {
			t.Fatalf("half of table %d", seen)
		}
	}
}

// A writer that died half-way leaves what the reader had, and nobody waits.
func TestWriterThatDiedHalfWay(t *testing.T) {
	c, w := both(t)
	if err := c.Publish(tableOf(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	c.SetLease(0, 1, 2)
	l := Lease{Begin: 1, End: 2, Generation: 1}
	c.mine.table.sequence.begin()
	c.mine.leases[0].sequence.begin()
	c.mine.leases[0].end.Store(1 << 62)
	if w.Table() != nil {
		t.Error("half a table was taken")
	}
	if w.Lease(0, &l) || l.End != 2 {
		t.Errorf("half a lease was taken: %+v", l)
	}
}

// A count that cannot be is no table, and touches no memory outside.
func TestImpossibleCounts(t *testing.T) {
	for _, counts := range [][2]uint64{{MaxRows + 1, 0}, {0, MaxRows + 1}, {MaxRows, 1}, {1 << 63, 1 << 63}} {
		c, w := both(t)
		c.mine.table.generation.Store(1)
		c.mine.table.vips.Store(counts[0])
		c.mine.table.services.Store(counts[1])
		if w.Table() != nil {
			t.Errorf("%v was taken", counts)
		}
	}
}

// Only a sealed page of this version is taken.
func TestOpenRefusesWhatIsNoPage(t *testing.T) {
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.Truncate(totalBytes); err != nil {
		t.Fatal(err)
	}
	memory := func(size int64, seals int) *os.File {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "test")
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, bad := range []struct {
		name string
		fd   int
	}{
		{"no descriptor", -1},
		{"a file", int(plain.Fd())},
		{"not sealed", int(memory(totalBytes, 0).Fd())},
		{"may grow", int(memory(totalBytes, unix.F_SEAL_SHRINK).Fd())},
		{"may shrink", int(memory(totalBytes, unix.F_SEAL_GROW).Fd())},
		{"too short", int(memory(totalBytes-1, sizeSeals).Fd())},
		{"too long", int(memory(totalBytes+1, sizeSeals).Fd())},
		{"empty", int(memory(totalBytes, sizeSeals).Fd())},
	} {
		if w, err := Open(bad.fd); !errors.Is(err, errNoPage) || w != nil {
			t.Errorf("%s: %v", bad.name, err)
		}
	}
	c, _ := both(t)
	c.mine.magic.Store(magic + 1)
	if _, err := Open(int(c.File().Fd())); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
	if err := c.File().Truncate(0); err == nil {
		t.Error("a page can shrink")
	}
}

// The layout fits its halves.
func TestLayoutFits(t *testing.T) {
	if n := reflect.TypeFor[controlHalf]().Size(); n > halfBytes {
		t.Errorf("control's half takes %d bytes of %d", n, halfBytes)
	}
	if n := reflect.TypeFor[workerHalf]().Size(); n > totalBytes-halfBytes {
		t.Errorf("the worker's half takes %d bytes of %d", n, totalBytes-halfBytes)
	}
}
