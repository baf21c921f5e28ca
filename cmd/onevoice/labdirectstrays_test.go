package main

import (
	"io"
	"slices"
	"testing"
	"time"

	"onevoice/admin"
)

// resetWithin bounds how long a user of a dead node waits for a reset when the cluster knows
// that it is dead: a list comes every 250 ms, and the client's TCP may have said something
// just before (RFC 6298 section 5.5: it waits twice as long each time).
const resetWithin = 5 * time.Second

// A client has a connection at a node that drains its bucket, and another one at the node that
// has died: the next owner resets this one, for it is not on the drainer's list, and the
// drainer's goes on.
func TestDirectStraysBesideADrainer(t *testing.T) {
	const from = "10.77.0.101"
	l := newDirectLab(t)
	older := l.session(from)
	drainer := "ov-" + older.node
	if code, out := l.on(drainer, "onevoice", "drain", older.node); code != 0 {
		t.Fatal(out)
	}
	l.until("the client's bucket has moved", func() bool { node, _ := l.login(from); return node != "" && node != older.node })
	newer := l.session(from)
	newer.says("hello")
	dead := "ov-" + newer.node
	third := macNodes()[slices.IndexFunc(macNodes(), func(n string) bool { return n != drainer && n != dead })]
	l.lab("kill", dead)
	l.do(dead, "ip", "link", "set", "eth0", "down")
	l.until("the cluster knows that the node is dead", func() bool {
		return slices.ContainsFunc(l.status(third).Nodes, func(n admin.NodeStatus) bool { return n.Name == newer.node && n.Orphaned })
	})
	older.says("still here")
	if _, err := newer.in.Write([]byte("is anybody there\n")); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, newer.out)
		over <- err
	}()
	began := time.Now()
	select {
	case <-over:
		t.Logf("reset after %v", time.Since(began))
	case <-time.After(resetWithin):
		t.Errorf("the connection to the dead node stands still: %+v", l.status(third).Rulings)
	}
	for range 3 {
		older.says("and here")
	}
	if n := l.status(third).Rulings["pass-stray"]; n == 0 {
		t.Error("the next owner has met no stray")
	}
}
