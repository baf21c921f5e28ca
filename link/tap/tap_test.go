package tap

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"onevoice/internal/pcap"
	"onevoice/link"
)

// wire is a device with frames to receive, which keeps what is sent.
type wire struct {
	link.Device
	in  [][]byte
	out [][]byte
}

func (w *wire) Receive(frames []link.Frame) (int, error) {
	for i, b := range w.in {
		frames[i].Data = b
	}
	return len(w.in), nil
}

func (w *wire) Send(vectors []link.Vector) error {
	for _, v := range vectors {
		w.out = append(w.out, bytes.Join(v.Pieces, nil))
	}
	return nil
}

// full is a disk with room for so many bytes.
type full int

var errFull = errors.New("full")

func (f *full) Write(b []byte) (int, error) {
	if *f -= full(len(b)); *f < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// What a device has received and sent is in the file when the call returns, in
// order, whole and with its time.
func TestTapWritesWhatPasses(t *testing.T) {
	var file bytes.Buffer
	at := time.Unix(1_700_000_000, 5)
	w := &wire{in: [][]byte{[]byte("the first frame"), []byte("another")}}
	d := New(w, &file, func() time.Time { return at })
	before := file.Len()
	if n, err := d.Receive(make([]link.Frame, 4)); n != 2 || err != nil {
		t.Fatalf("%d frames and %v", n, err)
	}
	if got := file.Len() - before; got < len("the first frame")+len("another") {
		t.Errorf("%d bytes were written when the frames had come", got)
	}
	if err := d.Send([]link.Vector{{Pieces: [][]byte{[]byte("head"), []byte("er and data")}}}); err != nil {
		t.Fatal(err)
	}
	r, err := pcap.NewReader(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the first frame", "another", "header and data"} {
		f, err := r.Next()
		if err != nil || string(f.Data) != want || f.At != time.Duration(at.UnixNano()) {
			t.Errorf("%q at %v and %v, want %q", f.Data, f.At, err, want)
		}
	}
	if d.Err() != nil {
		t.Error(d.Err())
	}
}

// A file that takes no more is told, and costs no frame.
func TestTapSurvivesItsFile(t *testing.T) {
	disk := full(30)
	w := &wire{}
	d := New(w, &disk, time.Now)
	for range 2 {
		if err := d.Send([]link.Vector{{Pieces: [][]byte{[]byte("a frame")}}}); err != nil {
			t.Error(err)
		}
	}
	if len(w.out) != 2 || !errors.Is(d.Err(), errFull) {
		t.Errorf("%d frames left, and the file's error is %v", len(w.out), d.Err())
	}
}
