package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever sends bad frames, forged heartbeats and wrong tokens, and a backend that
// comes and goes, cannot fill the log: what they do is counted. What an operator
// asks for is written down in the midst of it, with who it was.
func TestLogStaysBounded(t *testing.T) {
	p := newPair(t)
	dir, page := filepath.Dir(p.file), "127.0.0.1:7199"
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-token-of-many-letters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.configure("[[service]]\nname = \"flaps\"\nlisten = \"" + testVIP + ":81\"\nbackend = \"127.0.0.1:7001\"\n")
	text, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(text), "[admin]\n", fmt.Sprintf("[admin]\nlisten = %q\ntoken_file = %q\n", page, token), 1)
	if err := os.WriteFile(p.file, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	run := p.start()
	run.until("answering: this node holds a lease")
	w := newWire(p)
	var bad [][]byte
	for _, c := range slices.Concat(w.badIPv4(), w.badTCP(), w.badOthers(), w.badARP()) {
		bad = append(bad, c.frame)
	}
	before := w.verdicts()
	for range 100 {
		w.send(bad...)
	}
	p.forgeries(t, 5000)
	p.wrongTokens(t, page, 1000)
	for range 5 {
		p.flap("127.0.0.1:7001")
	}
	if code, out := runProgram(t, program(t, "weight", "--socket", p.socket(), p.status().Node, "50"), p.Start); code != 0 {
		t.Errorf("weight: exit %d: %s", code, out)
	}
	frames := uint64(0)
	for name, n := range w.verdicts() {
		frames += n - before[name]
	}
	if frames < uint64(50*len(bad)) {
		t.Errorf("%d frames were judged", frames)
	}
	run.end(syscall.SIGTERM)
	run.untilAllEnd()
	log := strings.Join(run.log, "\n")
	if n := len(run.log); n > 4*logBurst {
		t.Errorf("the log has %d lines:\n%s", n, log)
	}
	if n := strings.Count(log, "a wrong token"); n == 0 || n > 2*logBurst {
		t.Errorf("wrong tokens are told in %d lines", n)
	}
	if want := `msg="an operator's wish was granted" for=weight`; !strings.Contains(log, want) || !strings.Contains(log, `weight=50 by="user 0, process `) {
		t.Errorf("no %s in\n%s", want, log)
	}
}

// forgeries are datagrams to the control port, by address and by VIP, that nobody of
// the cluster has made.
func (p *pair) forgeries(t *testing.T, n int) {
	t.Helper()
	err := p.client.Do(func() error {
		for _, to := range []string{"10.77.0.11:7177", testVIP + ":7177"} {
			c, err := net.Dial("udp4", to)
			if err != nil {
				return err
			}
			defer c.Close()
			for i := range n {
				// One that finds no room is no matter.
				_, _ = c.Write(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 40+i%200))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wrongTokens are given to the page, from as many addresses as loopback has.
func (p *pair) wrongTokens(t *testing.T, page string, n int) {
	t.Helper()
	for i := range n {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (c net.Conn, err error) {
			err = p.Do(func() error {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/250), byte(1+i%250))}}
				c, err = d.DialContext(ctx, network, page)
				return err
			})
			return c, err
		}}}
		r, err := client.Post("http://"+page+"/v1/session", "application/json", strings.NewReader(`{"token":"guess"}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized && r.StatusCode != http.StatusTooManyRequests {
			t.Fatalf("a guess is answered with %d", r.StatusCode)
		}
	}
}

// flap has a backend come and go while clients connect.
func (p *pair) flap(at string) {
	p.t.Helper()
	var l net.Listener
	err := p.Do(func() (err error) { l, err = net.Listen("tcp4", at); return err })
	if err != nil {
		p.t.Fatal(err)
	}
	tries := func(want bool) {
		for begun := time.Now(); time.Since(begun) < patience; {
			c, err := p.dialTo(81)
			if err == nil {
				c.Close()
			}
			if (err == nil) == want {
				return
			}
		}
		p.t.Fatalf("the backend that flaps is there: %v", !want)
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Close()
		}
	}()
	tries(true)
	l.Close()
	tries(false)
}
