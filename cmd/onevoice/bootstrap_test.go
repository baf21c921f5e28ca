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

// until starts a program on the host and reads its log to a line with a word.
func (h *host) until(word string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := program(h.t, append(args, "--config", h.file)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		h.t.Fatal(err)
	}
	var all strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), word) {
			go func() { // so that it can go on writing
				for lines.Scan() {
				}
			}()
			return cmd
		}
	}
	h.t.Fatalf("%v ended without %q:\n%s", args, word, all.String())
	return nil
}

func (h *host) end(cmd *exec.Cmd) {
	h.t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		h.t.Fatal(err)
	}
}

// A node founds a cluster without the others, and later recovers from it.
func TestBootstrapAndRecover(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	state := filepath.Join(filepath.Dir(h.file), "state")
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "\n[node]", "\n[node]\nstate_dir = \""+state+"\"", 1))
	if err := os.WriteFile(h.file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	others := "10.77.0.12,10.77.0.13,10.77.0.14"
	says := func(code int, word string, args ...string) {
		t.Helper()
		got, out := runProgram(t, program(t, append(args, "--config", h.file)...), h.Start)
		if got != code || !strings.Contains(out, word) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", args, got, code, word, out)
		}
	}
	says(2, "run is enough", "bootstrap")
	says(2, "1 of 4 peers are left", "bootstrap", "--without", others)
	says(1, "no such file", "recover", "--"+fencedFlag)

	first := h.until("founded cluster campus-ssh with 1 hosts", "bootstrap", "--without", others, "--"+fencedFlag)
	says(1, "is in use by process", "recover", "--"+fencedFlag)
	h.end(first)
	says(2, "nothing was changed", "recover")
	says(0, `Cluster "campus-ssh" consists of this node alone`, "recover", "--"+fencedFlag)
	h.end(h.until("is in, under epoch", "run"))
}
