package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

// held is what a journal should hold.
type held struct {
	snapshot string
	records  []string
}

func (h held) String() string { return fmt.Sprintf("%q %q", h.snapshot, h.records) }

func (h held) after(s scripted) held {
	if s.replace {
		return held{s.snapshot, s.records}
	}
	return held{h.snapshot, append(slices.Clone(h.records), s.records...)}
}

func heldBy(l Loaded) held {
	h := held{snapshot: string(l.Snapshot)}
	for _, r := range l.Records {
		h.records = append(h.records, string(r))
	}
	return h
}

// scripted is one change of a history.
type scripted struct {
	replace  bool
	snapshot string
	records  []string
}

func (s scripted) do(st *store) error {
	var records [][]byte
	for _, r := range s.records {
		records = append(records, []byte(r))
	}
	if s.replace {
		return st.replace([]byte(s.snapshot), records)
	}
	return st.append(records)
}

func history() []scripted {
	return []scripted{
		{records: []string{"term 1"}},
		{records: []string{"vote", "", "\x00\x00\x00"}},
		{records: []string{strings.Repeat("long", 200)}},
		{records: []string{""}},
		{replace: true, snapshot: "snapshot", records: []string{"after it", "and more"}},
		{records: []string{strings.Repeat("\x00", 1200)}},
		{replace: true, snapshot: strings.Repeat("S", 700)},
		{records: []string{strings.Repeat("long", 50)}},
		{records: []string{"last"}},
	}
}

// ids are file ids that differ, as random ones do.
func ids() func() [16]byte {
	var n byte
	return func() [16]byte { n++; return [16]byte{n} }
}

// run opens a journal on a disk and goes through steps until the machine stops.
// done are the steps acknowledged; failed are those that returned errors.
func run(t *testing.T, d *disk, steps []scripted) (loaded held, opened bool, done, failed []int) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil && r != any(crash{}) {
			panic(r)
		}
	}()
	s, l, err := openStore(d, ids())
	if err != nil {
		if d.failAt < 0 {
			t.Fatalf("it does not open: %v", err)
		}
		return
	}
	loaded, opened = heldBy(l), true
	for i, step := range steps {
		broken := s.broken != nil
		err := step.do(s)
		if broken && err == nil {
			t.Fatal("a broken journal took a write")
		}
		if err != nil {
			failed = append(failed, i)
		} else {
			done = append(done, i)
		}
	}
	return
}

// reopen opens an image, which must hold one of the wanted, and goes on from
// there, also when the machine stops while it opens.
func reopen(t *testing.T, image []byte, deep bool, want ...held) {
	t.Helper()
	d := newDisk(image)
	got, _, done, _ := run(t, d, []scripted{{records: []string{"go on"}}})
	ops := d.op
	i := slices.IndexFunc(want, func(h held) bool { return h.String() == got.String() })
	if i < 0 {
		t.Fatalf("found %v, want one of %v", got, want)
	}
	if len(done) != 1 {
		t.Fatal("a journal that opened takes no more")
	}
	next := want[i].after(scripted{records: []string{"go on"}})
	again, err := parse(d.names[journalName].data())
	if err != nil || heldBy(Loaded{Snapshot: again.snapshot, Records: again.records}).String() != next.String() || again.torn != 0 {
		t.Fatalf("after going on: %v, %v", again, err)
	}
	if !deep {
		return
	}
	for k := range ops {
		d := newDisk(image)
		d.crashAt = k
		run(t, d, []scripted{{records: []string{"go on"}}})
		for _, image := range d.images() {
			reopen(t, image, false, want[i], next)
		}
	}
}

// The machine stops in each call of a history, and after each byte of each write.
// What is found is all that was acknowledged, and at most the step under way,
// whole.
func TestEveryCrashLoads(t *testing.T) {
	steps := history()
	whole := newDisk(nil)
	run(t, whole, steps)
	images := 0
	for k := range whole.op {
		d := newDisk(nil)
		d.crashAt = k
		_, _, done, _ := run(t, d, steps)
		var before held
		for _, i := range done {
			before = before.after(steps[i])
		}
		want := []held{before}
		if len(done) < len(steps) {
			want = append(want, before.after(steps[len(done)]))
		}
		for i, image := range d.images() {
			reopen(t, image, i%20 == 0, want...)
			images++
		}
	}
	if images < 2000 {
		t.Errorf("only %d images: not every byte of every write was tried", images)
	}
}

// Each call of a history fails in turn, as disks fail. What was acknowledged
// before and after stays; what failed is gone, or whole if nothing came after it.
func TestEveryFaultLeavesWhatWasAcknowledged(t *testing.T) {
	steps := history()
	whole := newDisk(nil)
	run(t, whole, steps)
	for k := range whole.op {
		for i, fault := range append(faults(), faults()...) {
			d := newDisk(nil)
			d.failAt, d.fault, d.failing = k, fault, 1+i/len(faults())
			_, opened, done, failed := run(t, d, steps)
			if len(failed) == 0 && opened {
				t.Fatalf("call %d failed with %v and nobody was told", k, fault)
			}
			var sure held
			for _, i := range done {
				sure = sure.after(steps[i])
			}
			want := []held{sure}
			for _, i := range failed {
				if len(done) == 0 || i > done[len(done)-1] {
					want = append(want, sure.after(steps[i]))
				}
			}
			for _, image := range d.images() {
				reopen(t, image, false, want...)
			}
		}
	}
}

// A disk that is full for a while is no reason to stop.
func TestFullDiskIsOverWhenThereIsRoom(t *testing.T) {
	d := newDisk(nil)
	s, _, err := openStore(d, ids())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []scripted{{records: []string{"a record"}}, {replace: true, snapshot: "s"}} {
		d.failAt, d.fault = d.op, faults()[0]
		if step.replace {
			d.failAt++ // not at create, but at the write
		}
		if err := step.do(s); !errors.Is(err, faults()[0]) || s.broken != nil {
			t.Fatalf("%v, broken: %v", err, s.broken)
		}
		if _, ok := d.names[newName]; ok {
			t.Error("a failed replacement was left behind")
		}
		if err := step.do(s); err != nil {
			t.Fatal(err)
		}
	}
}

// image is the history's file up to a step, and where its first content ends.
func image(t *testing.T, steps []scripted) (b []byte, h held) {
	t.Helper()
	d := newDisk(nil)
	if _, _, done, _ := run(t, d, steps); len(done) != len(steps) {
		t.Fatal("the history does not run")
	}
	for _, s := range steps {
		h = h.after(s)
	}
	return d.names[journalName].data(), h
}

func refused(t *testing.T, b []byte, what string, args ...any) {
	t.Helper()
	_, _, err := openStore(newDisk(b), ids())
	var damage *Damage
	if !errors.As(err, &damage) {
		t.Errorf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// Every bit of a file is guarded, in its last batch too.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	for _, n := range []int{4, 6, 8} {
		b, _ := image(t, history()[:n])
		for i := range b {
			for bit := range 8 {
				bad := bytes.Clone(b)
				bad[i] ^= 1 << bit
				refused(t, bad, "%d steps, byte %d bit %d", n, i, bit)
			}
		}
	}
}

// A file cut anywhere after its first content is what a crash leaves; before
// that it was renamed too early, which is not.
func TestEveryCutOfAFile(t *testing.T) {
	steps := history()[:4]
	b, _ := image(t, steps)
	first, _ := image(t, nil)
	var ends []int
	for i := range steps {
		part, _ := image(t, steps[:i+1])
		ends = append(ends, len(part))
	}
	for n := range b {
		if n < len(first) {
			refused(t, b[:n], "cut to %d bytes", n)
			continue
		}
		var want held
		for i, end := range ends {
			if end <= n {
				want = want.after(steps[i])
			}
		}
		reopen(t, b[:n], false, want)
	}
}

func TestBatchOfAnotherFileIsRefused(t *testing.T) {
	steps := history()[:2]
	b, _ := image(t, steps[:1])
	full, _ := image(t, steps)
	d := newDisk(nil)
	other := func() [16]byte { return [16]byte{99} }
	s, _, err := openStore(d, other)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err := step.do(s); err != nil {
			t.Fatal(err)
		}
	}
	foreign := d.names[journalName].data()
	if len(foreign) != len(full) {
		t.Fatal("the two files differ in length")
	}
	refused(t, append(bytes.Clone(b), foreign[len(b):]...), "a batch of another file")
	refused(t, append(bytes.Clone(full), full[len(b):]...), "a batch again")
	first, _ := image(t, nil)
	refused(t, append(bytes.Clone(first), full[len(b):]...), "a batch left out")
}

func TestZerosInTheMiddleAreRefused(t *testing.T) {
	b, _ := image(t, history()[:6]) // its last batch has zeros in it
	for from := fileHeader; from < len(b)-1; from += 37 {
		bad := bytes.Clone(b)
		clear(bad[from : len(bad)-1])
		refused(t, bad, "zeros from %d to the last byte but one", from)
	}
	first, _ := makeFile(1, [16]byte{}, bytes.Repeat([]byte("S"), 1200), nil)
	clear(first[2*sectorBytes:])
	refused(t, first, "zeros where the snapshot ended")
	bad := append(bytes.Clone(b), "\x00\x00x"...)
	bad = append(bad, make([]byte, 30)...)
	refused(t, bad, "what nobody wrote at the end")
}

func TestAnotherVersionIsNamed(t *testing.T) {
	b, _ := makeFile(1, [16]byte{}, nil, nil)
	b[11] = 7
	s := sum(0, b[:fileHeader-4])
	b[fileHeader-4], b[fileHeader-3], b[fileHeader-2], b[fileHeader-1] = byte(s>>24), byte(s>>16), byte(s>>8), byte(s)
	_, _, err := openStore(newDisk(b), ids())
	if err == nil || !strings.Contains(err.Error(), "version 7 and this program reads version 1") {
		t.Error(err)
	}
}

func TestBoundsAreRefused(t *testing.T) {
	s, _, err := openStore(newDisk(nil), ids())
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, MaxBatchBytes)
	if err := s.append([][]byte{big}); err == nil || s.broken != nil {
		t.Errorf("a batch too long: %v", err)
	}
	if err := s.replace(big, nil); err == nil || s.broken != nil {
		t.Errorf("a snapshot too long: %v", err)
	}
	s.tail.end = MaxFileBytes - 10
	if err := s.append([][]byte{{1}}); err == nil || !strings.Contains(err.Error(), "replace it by a snapshot") {
		t.Errorf("a file too long: %v", err)
	}
	if err := s.replace(big[:MaxBatchBytes-3], nil); err == nil {
		t.Error("a snapshot too long by one byte was taken")
	}
	if err := s.replace(big[:MaxBatchBytes-4], nil); err != nil {
		t.Errorf("the longest snapshot: %v", err)
	}
}

func TestReadErrorIsNoBlankNode(t *testing.T) {
	if _, _, err := openStore(unreadable{newDisk(nil)}, ids()); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

type unreadable struct{ *disk }

func (unreadable) read(string) ([]byte, error) { return nil, fs.ErrPermission }

// FuzzParse: whatever the file holds, it loads or is refused, and what loads from
// a damaged copy of a real file is a beginning of the real history.
func FuzzParse(f *testing.F) {
	d := newDisk(nil)
	s, _, err := openStore(d, ids())
	if err != nil {
		f.Fatal(err)
	}
	for _, step := range history()[:4] {
		if err := step.do(s); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(d.names[journalName].data())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parse(b)
		var damage *Damage
		if errors.As(err, &damage) && (damage.Offset < 0 || damage.Offset > int64(len(b))) {
			t.Errorf("offset %d of %d", damage.Offset, len(b))
		}
		if err == nil && c.tail.end+c.torn != int64(len(b)) {
			t.Errorf("%d good and %d torn of %d bytes", c.tail.end, c.torn, len(b))
		}
	})
}
