package control

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
)

// alone is the file of a cluster of one host.
func alone(t *testing.T) cluster.Options {
	t.Helper()
	timing, err := cluster.TimingOf(cluster.LAN)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Options{
		Cluster: "alone", Name: "n1", Address: loopback(1), Peers: []cluster.Peer{{Address: loopback(1)}}, Timing: timing,
		Paths: []string{"lan"}, Services: []cluster.ServiceSpec{{Name: "ssh"}}, Weight: 100, Random: rand.New(rand.NewPCG(1, 1)),
		NewCluster: [16]byte{5}, NewKey: cluster.Key{1},
	}
}

// memberState makes a state directory of a host that has founded a cluster.
func memberState(t *testing.T, dir string) {
	t.Helper()
	s, saved, next := savedState(t, dir, nil)
	core, err := cluster.New(alone(t), saved, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	for now := time.Duration(0); now < 3*time.Second; now += 10 * time.Millisecond {
		for e := core.Step(now, nil); e.Write != nil; {
			s.Save(*e.Write)
			e = core.Step(now, next())
		}
	}
	if core.Status(3*time.Second).Phase != "member" {
		t.Fatalf("%+v", core.Status(3*time.Second))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRecoverAStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	memberState(t, dir)
	name := filepath.Join(dir, "journal")
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	look, err := LookRecover(dir)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(name); err != nil || string(after) != string(before) {
		t.Error("looking has changed the state")
	}
	r, err := Recover(dir, [16]byte{0xcc})
	if err != nil || r.Cluster != "alone" || r.ID != look.ID || r.Index != look.Index {
		t.Errorf("%+v, looked %+v, %v", r, look, err)
	}
	_, saved, _ := savedState(t, dir, nil)
	core, err := cluster.New(alone(t), saved, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if s := core.Status(0); s.UUID != [16]byte{0xcc} || s.ID != r.ID {
		t.Errorf("%+v", s)
	}
	// While it is in use nothing is recovered.
	if _, err := Recover(dir, [16]byte{0xdd}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
}

func TestNothingToRecover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Recover(dir, [16]byte{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made")
	}
	s, _, _ := savedState(t, dir, nil)
	s.Close()
	if _, err := Recover(dir, [16]byte{1}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "--without") {
		t.Error(err)
	}
}
