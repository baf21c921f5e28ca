package sim

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestHabits(t *testing.T) {
	for _, c := range []struct {
		name string
		h    Habit
		ok   func(l *Life, c *Client) bool
	}{
		{"opens and closes", Habit{OpenEvery: time.Second, Hold: time.Second}, func(l *Life, _ *Client) bool {
			return l.Opened > 50 && l.Opened < 150 && l.Ended[TimeWait] > l.Opened*8/10
		}},
		{"transfers", Habit{OpenEvery: 5 * time.Second, Transfer: 30000}, func(l *Life, _ *Client) bool { return l.Opened > 10 }},
		{"resets and vanishes", Habit{OpenEvery: time.Second, Hold: time.Second, ResetPercent: 50, VanishPercent: 50}, func(l *Life, _ *Client) bool {
			return l.Ended[Aborted] > l.Opened*8/10 && l.Ended[TimeWait] == 0
		}},
		{"is bounded", Habit{OpenEvery: 100 * ms, MaxOpen: 3}, func(l *Life, _ *Client) bool { return l.Opened == 3 && l.Skipped > 500 }},
		{"pings and asks", Habit{PingEvery: time.Second, AskEvery: 2 * time.Second}, func(_ *Life, c *Client) bool {
			return len(c.Pings) > 60 && len(c.Pings) < 140 && len(c.Asks) > 25 && len(c.Asks) < 80
		}},
		{"talks", Habit{OpenEvery: 20 * time.Second, Hold: time.Hour, SayEvery: time.Second, SayBytes: 100}, func(l *Life, c *Client) bool { return l.Opened > 0 }},
	} {
		w := New(1)
		l := w.NewHub()
		s := newServer(t, l)
		s.resetsAreFine = true
		cl, err := l.AddClient("", ClientOptions{Name: "c", MAC: clientMAC(), IP: theClient(), VIP: theVIP()})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.Ports() {
			p.Down.DelayMin, p.Down.DelayMax = ms, 2*ms
		}
		resets := uint64(0)
		l.Tap = func(_ *Port, f []byte) {
			if s, ok := ParseSegment(f); ok && s.Has(RST|ACK) {
				resets++
			}
		}
		var conns []*Conn
		c.h.Service = 22
		c.h.Opened = func(n *Conn) { conns = append(conns, n) }
		life, err := cl.Live(c.h)
		if err != nil {
			t.Fatal(err)
		}
		w.Run(100 * time.Second)
		if !c.ok(life, cl) {
			t.Errorf("%s: %+v; %d pings, %d asks", c.name, life, len(cl.Pings), len(cl.Asks))
		}
		if half := life.Opened * uint64(c.h.ResetPercent) / 100; resets < half/2 || resets > half*3/2 {
			t.Errorf("%s: %d resets of %d connections", c.name, resets, life.Opened)
		}
		for _, n := range conns {
			if want := uint64(c.h.Transfer); n.State == Established && w.Now()-n.Opened > 30*time.Second && want > 0 && n.Received != want {
				t.Errorf("%s: %d bytes came back, want %d", c.name, n.Received, want)
			}
			if c.h.SayBytes > 0 && w.Now()-n.Opened > 10*time.Second && n.Received < 500 {
				t.Errorf("%s: only %d bytes in %v", c.name, n.Received, w.Now()-n.Opened)
			}
		}
		life.Stop()
		w.Run(w.Now() + 10*time.Second)
		opened, pings := life.Opened, len(cl.Pings)
		w.Run(w.Now() + 100*time.Second)
		if life.Opened != opened || len(cl.Pings) != pings {
			t.Errorf("%s: it goes on after Stop", c.name)
		}
	}
}

func TestFloods(t *testing.T) {
	for from, sources := range map[string]int{"": 1, "198.51.100.0/24": 256, "0.0.0.0/0": 1900} {
		w := New(1)
		l := w.NewHub()
		cl := NewClient(l, ClientOptions{Name: "c", MAC: clientMAC(), IP: theClient(), VIP: theVIP()})
		cl.SetVIPMAC(clusterMAC())
		seen, syns := map[netip.Addr]bool{}, 0
		l.Tap = func(_ *Port, f []byte) {
			if s, ok := ParseSegment(f); ok && s.Flags == SYN {
				syns++
				seen[s.From.Addr()] = true
			}
		}
		f := Flood{Service: 22, PerSecond: 1000, For: 2 * time.Second}
		if from != "" {
			f.From = netip.MustParsePrefix(from)
		}
		if err := cl.Flood(f); err != nil {
			t.Fatal(err)
		}
		w.Run(10 * time.Second)
		if syns != 2000 || len(seen) < sources || from != "0.0.0.0/0" && len(seen) > sources {
			t.Errorf("from %q: %d SYNs of %d addresses, want 2000 of %d", from, syns, len(seen), sources)
		}
		for ip := range seen {
			if f.From.IsValid() && !f.From.Contains(ip) {
				t.Errorf("a SYN from %v, not in %v", ip, f.From)
			}
		}
		if w.Pending() != 0 {
			t.Errorf("%d events wait after the flood", w.Pending())
		}
	}
}

func TestImpossibleHabits(t *testing.T) {
	cl := NewClient(New(1).NewHub(), ClientOptions{Name: "c", MAC: clientMAC(), IP: theClient(), VIP: theVIP()})
	for want, h := range map[string]Habit{
		"needs the service's port":         {OpenEvery: time.Second},
		"opens every -1ns":                 {Service: 1, OpenEvery: -1},
		"60% resets and 50% sudden ends":   {ResetPercent: 60, VanishPercent: 50},
		"-1% resets":                       {ResetPercent: -1},
		"1 to 4096 connections":            {MaxOpen: MaxOpen + 1},
		"a transfer is of 1 to 1073741824": {Transfer: -1},
	} {
		if _, err := cl.Live(h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, f := range map[string]Flood{
		"needs the service's port":               {PerSecond: 1, For: 1},
		"1 to 100000 SYNs a second, not 0":       {Service: 1, For: 1},
		"1 to 100000 SYNs a second, not 1000000": {Service: 1, PerSecond: 1_000_000, For: 1},
		"at most 1000000 SYNs":                   {Service: 1, PerSecond: 100_000, For: 11 * time.Second},
		"or none":                                {Service: 1, PerSecond: 1},
		"from IPv4 addresses":                    {Service: 1, PerSecond: 1, For: 1, From: netip.MustParsePrefix("::/0")},
	} {
		if err := cl.Flood(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
