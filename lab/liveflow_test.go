package lab

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// servedFlow is a flow whose service is the test.
func servedFlow(t *testing.T) (*liveFlow, net.Conn) {
	t.Helper()
	client, service := net.Pipe()
	t.Cleanup(func() { client.Close(); service.Close() })
	f := &liveFlow{stream: client, every: time.Millisecond, node: "n1", stop: make(chan struct{})}
	f.start(client)
	return f, service
}

// untilState waits until a flow is as wanted.
func untilState(t *testing.T, f *liveFlow, want func(heard time.Time, ended error) bool) {
	t.Helper()
	for began := time.Now(); ; {
		heard, _, ended := f.state()
		if want(heard, ended) {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("heard %v, ended %v", heard, ended)
		}
	}
}

func TestLiveFlow(t *testing.T) {
	f, service := servedFlow(t)
	b := make([]byte, beatBytes)
	for i := range 3 {
		before := time.Now()
		if _, err := io.ReadFull(service, b); err != nil || b[beatBytes-1] != byte(i) {
			t.Fatalf("beat %d: %v %v", i, b, err)
		}
		if _, err := service.Write(b); err != nil {
			t.Fatal(err)
		}
		untilState(t, f, func(heard time.Time, ended error) bool { return heard.After(before) && ended == nil })
	}
	service.Close()
	untilState(t, f, func(_ time.Time, ended error) bool { return ended != nil })
	<-f.stop
	if _, at, ended := f.state(); ended == errNotEchoed || at.IsZero() {
		t.Errorf("ended %v at %v", ended, at)
	}
}

// What comes back has to be what was sent.
func TestLiveFlowReadsItsEcho(t *testing.T) {
	f, service := servedFlow(t)
	if _, err := service.Write([]byte{0, 0, 0, 0, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	untilState(t, f, func(_ time.Time, ended error) bool { return ended == errNotEchoed })
}

func TestClosedFlowIsNotBroken(t *testing.T) {
	f, _ := servedFlow(t)
	f.close()
	untilState(t, f, func(_ time.Time, ended error) bool { return ended == net.ErrClosed })
}

// Newcomers beyond the bound are left out.
func TestNewcomersAreBounded(t *testing.T) {
	n := &newcomers{most: MaxNewcomers, running: MaxNewcomers}
	n.begin(from{}, 0)
	if n.missed != 1 || n.running != MaxNewcomers || len(n.all) != 0 {
		t.Errorf("missed %d, running %d, %d noted", n.missed, n.running, len(n.all))
	}
}

func TestNewcomersAreTakenWhenDone(t *testing.T) {
	n := &newcomers{all: []*newcomer{{began: after(0)}, {began: after(1), over: true}, {began: after(2)}}}
	if got := n.waiting(after(2)); got != 1 {
		t.Errorf("%d wait", got)
	}
	if got := n.take(); len(got) != 1 || len(n.all) != 2 || len(n.take()) != 0 {
		t.Errorf("took %v, left %v", got, n.all)
	}
}

// The beat service tells its name and sends back what it gets.
func TestServeBeatConn(t *testing.T) {
	client, service := net.Pipe()
	defer client.Close()
	go serveBeatConn(service, "n7")
	in := bufio.NewReader(client)
	name, err := in.ReadString('\n')
	if err != nil || name != "n7\n" {
		t.Fatalf("%q %v", name, err)
	}
	go func() { _, _ = client.Write([]byte("abc\n")) }()
	if back, err := in.ReadString('\n'); err != nil || back != "abc\n" {
		t.Errorf("%q %v", back, err)
	}
}

// A report is written whole.
func TestReportIsWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	r := newTortureResult(&TortureOptions{Seed: 7})
	r.kind(TortureKill).told = waits{time.Second}
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 || r.Kinds[TortureKill].Told.Max != time.Second {
		t.Errorf("%s %v", text, err)
	}
	if err := r.write(filepath.Join(file, "no")); err == nil {
		t.Error("a file below a file")
	}
}
