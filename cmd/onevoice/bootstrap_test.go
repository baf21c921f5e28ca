package main

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"onevoice/config"
)

func TestWhoMayBeLeftOut(t *testing.T) {
	addr := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	peers := addr("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	for _, c := range []struct {
		without []string
		forced  bool
		witness string
		want    []netip.Addr
		says    string
	}{
		{},
		{without: []string{"10.0.0.4"}, want: addr("10.0.0.4")},
		{without: []string{"10.0.0.4", "10.0.0.4"}, want: addr("10.0.0.4")},
		{without: []string{"10.0.0.3", "10.0.0.4"}, says: "2 of 4 peers are left, and a majority is 3"},
		{without: []string{"10.0.0.3", "10.0.0.4"}, forced: true, want: addr("10.0.0.3", "10.0.0.4")},
		{without: []string{"10.0.0.4", "10.1.0.9"}, witness: "10.1.0.9:7177", want: addr("10.0.0.4", "10.1.0.9")},
		{without: []string{"10.1.0.9"}, says: "no peer of the file; name one of 10.0.0.1, 10.0.0.2"},
		{without: []string{"unix1"}, says: "no peer of the file"},
		{without: []string{"10.0.0.1"}, forced: true, says: "that is this node"},
	} {
		cfg := &config.Config{Cluster: config.Cluster{Peers: peers}}
		if c.witness != "" {
			cfg.Cluster.Witness = netip.MustParseAddrPort(c.witness)
		}
		got, err := founding{c.without, c.forced}.leftOut(cfg, peers[0])
		if c.says == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%v: %v, %v", c.without, got, err)
		}
		if c.says != "" && (err == nil || !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%v: %v, want %q", c.without, err, c.says)
		}
	}
}

// logged is a program under way on a host, and its log.
type logged struct {
	*exec.Cmd
	t     *testing.T
	lines chan string
	all   strings.Builder
}

// begin starts a program on the host, with its file.
func (h *host) begin(args ...string) *logged {
	h.t.Helper()
	l := &logged{Cmd: program(h.t, append(args, "--config", h.file)...), t: h.t, lines: make(chan string, 10_000)}
	log, err := l.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Start(l.Cmd); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(l.lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	return l
}

// until reads the log to a line with a word.
func (l *logged) until(word string) *logged {
	l.t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-l.lines:
			l.all.WriteString(line + "\n")
			if !ok {
				l.t.Fatalf("%v ended without %q:\n%s", l.Args, word, l.all.String())
			}
			if strings.Contains(line, word) {
				return l
			}
		case <-late:
			l.t.Fatalf("%v goes on without %q:\n%s", l.Args, word, l.all.String())
		}
	}
}

func (l *logged) end() {
	l.t.Helper()
	if err := l.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	for range l.lines {
	}
	if err := l.Wait(); err != nil {
		l.t.Fatal(err)
	}
}

// edit changes the host's file.
func (h *host) edit(pairs ...string) {
	h.t.Helper()
	text, err := os.ReadFile(h.file)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.file, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// ownState gives the host a state directory of its own.
func (h *host) ownState() {
	h.t.Helper()
	h.edit("\n[node]", "\n[node]\nstate_dir = \""+filepath.Join(filepath.Dir(h.file), "state")+"\"")
}

// A node founds a cluster without the others, and later recovers from it.
func TestBootstrapAndRecover(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	h.ownState()
	others := "10.77.0.12,10.77.0.13,10.77.0.14"
	says := func(code int, word string, args ...string) {
		t.Helper()
		got, out := runProgram(t, program(t, append(args, "--config", h.file)...), h.Start)
		if got != code || !strings.Contains(out, word) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", args, got, code, word, out)
		}
	}
	says(1, "no such file", "recover", "--"+fencedFlag)
	says(2, "run is enough", "bootstrap")
	says(2, "1 of 4 peers are left", "bootstrap", "--without", others)
	says(1, "no state to recover from", "recover", "--"+fencedFlag)

	first := h.begin("bootstrap", "--without", others, "--"+fencedFlag).until("founded cluster campus-ssh with 1 hosts")
	says(1, "is in use by process", "recover", "--"+fencedFlag)
	first.end()
	says(2, "nothing was changed", "recover")
	says(0, `Cluster "campus-ssh" consists of this node alone`, "recover", "--"+fencedFlag)
	h.begin("run").until("is in, under epoch").end()
}
