package control

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
)

// savedState opens a state directory; next waits for the end of a write.
func savedState(t *testing.T, dir string, lock *os.File) (s *State, saved cluster.Saved, next func() cluster.Wrote) {
	t.Helper()
	woken := make(chan struct{}, 10)
	s, saved, err := OpenState(dir, lock, func() { woken <- struct{}{} }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, saved, func() cluster.Wrote {
		t.Helper()
		<-woken
		waiting := s.Waiting()
		w, ok := s.Wrote()
		if !ok || !waiting || s.Waiting() {
			t.Fatal("woken for nothing")
		}
		if _, again := s.Wrote(); again {
			t.Fatal("the same end twice")
		}
		return w
	}
}

func texts(b [][]byte) (out []string) {
	for _, r := range b {
		out = append(out, string(r))
	}
	return out
}

func TestWhatWasSavedIsFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, saved, next := savedState(t, dir, nil)
	if len(saved.Image) != 0 || len(saved.Records) != 0 {
		t.Errorf("%+v in a new directory", saved)
	}
	for i, w := range []cluster.Write{
		{Seq: 1, Records: [][]byte{[]byte("lost by the image")}},
		{Seq: 2, Image: []byte("image"), Records: [][]byte{[]byte("a")}},
		{Seq: 3, Records: [][]byte{[]byte("b"), []byte("c")}},
	} {
		s.Save(w)
		if got := next(); got != (cluster.Wrote{Seq: uint64(i + 1)}) {
			t.Errorf("%+v", got)
		}
	}
	lock, err := s.Pass()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, saved, _ = savedState(t, dir, lock)
	if string(saved.Image) != "image" || !slices.Equal(texts(saved.Records), []string{"a", "b", "c"}) {
		t.Errorf("%q %q", saved.Image, saved.Records)
	}
	if _, _, err := OpenState(dir, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two hold one directory")
	}
}

// A write that fails and can be tried again is tried again, and nobody is told of
// what succeeds in the end.
func TestFailedWriteIsTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _, next := savedState(t, dir, nil)
	s.again = time.Millisecond
	lines := &lines{more: make(chan struct{}, 10)}
	s.log = slog.New(slog.NewTextHandler(lines, nil))
	inTheWay := filepath.Join(dir, "journal.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Save(cluster.Write{Seq: 1, Image: []byte("image")})
	<-lines.more // it has failed
	if !strings.Contains(s.Trouble(), "journal.new") {
		t.Errorf("trouble %q", s.Trouble())
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != (cluster.Wrote{Seq: 1}) {
		t.Errorf("%+v", got)
	}
	if s.Trouble() != "" {
		t.Errorf("trouble %q after the end", s.Trouble())
	}
	s.Close()
	if got := lines.text.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "changes nothing until it can") || !strings.Contains(got, "saved again") {
		t.Errorf("log %q", got)
	}
}

// lines is a log that tells of each line.
type lines struct {
	text strings.Builder
	more chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.text.Write(b)
	l.more <- struct{}{}
	return len(b), nil
}

// Stopping does not wait for a disk that stays full, and the write counts as
// never made.
func TestStopWithAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _, _ := savedState(t, dir, nil)
	lines := &lines{more: make(chan struct{}, 10)}
	s.log = slog.New(slog.NewTextHandler(lines, nil))
	inTheWay := filepath.Join(dir, "journal.new")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Save(cluster.Write{Seq: 1, Image: []byte("image")})
	<-lines.more
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if w, ok := s.Wrote(); ok {
		t.Errorf("%+v", w)
	}
}

func TestBrokenDiskIsTold(t *testing.T) {
	s, _, next := savedState(t, filepath.Join(t.TempDir(), "state"), nil)
	if err := s.journal.Close(); err != nil { // as a failed fsync would
		t.Fatal(err)
	}
	s.Save(cluster.Write{Seq: 5, Records: [][]byte{{1}}})
	if got := next(); got.Seq != 5 || got.Err == nil {
		t.Errorf("%+v", got)
	}
}
