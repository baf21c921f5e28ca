package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

var directKills = flag.Int("direct-kills", 0, "how often a daemon of the direct path is killed under sessions; make kills has 50")

// backWithin is how long the cluster keeps a killed node's flows for it (OWNERSHIP.md R18).
const backWithin = 3 * time.Second

// Daemons of the direct path are killed and started again, one after the other, while
// sessions say something all the time: none ends, and each daemon has its lease and its
// buckets again in time.
func TestKillsUnderSessions(t *testing.T) {
	if *directKills == 0 {
		t.Skip("takes half a minute; make kills")
	}
	l := newDirectLab(t)
	var all []*session
	for i := range 12 {
		all = append(all, l.session(fmt.Sprintf("10.77.0.%d", 101+i)))
	}
	stop := make(chan struct{})
	lost, said := make([]error, len(all)), make([]int, len(all))
	var talks sync.WaitGroup
	for i, s := range all {
		talks.Go(func() { said[i], lost[i] = s.talk(stop) })
	}
	var took []time.Duration
	for n := range *directKills {
		at := fmt.Sprintf("ov-n%d", n%3+1)
		began := time.Now()
		l.lab("kill", at)
		l.lab("start", at)
		l.until("the node serves again", func() bool { return l.serves(at) })
		took = append(took, time.Since(began))
	}
	close(stop)
	talks.Wait()
	for i, err := range lost {
		if err != nil {
			t.Errorf("the session of client %d with %s ended after %d words: %v", i, all[i].node, said[i], err)
		}
	}
	slices.Sort(took)
	t.Logf("%d kills; back with lease and buckets after %v (median), from %v to %v; words: %v", len(took), took[len(took)/2], took[0], took[len(took)-1], said)
	if last := took[len(took)-1]; last > backWithin {
		t.Errorf("one was away for %v", last)
	}
}

// talk says words and wants them back, until it is to stop.
func (s *session) talk(stop <-chan struct{}) (said int, err error) {
	for ; ; said++ {
		select {
		case <-stop:
			return said, nil
		default:
		}
		word := fmt.Sprintf("word %d\n", said)
		if _, err := s.in.Write([]byte(word)); err != nil {
			return said, err
		}
		back := make([]byte, len(word))
		if _, err := io.ReadFull(s.out, back); err != nil {
			return said, err
		}
		if string(back) != word {
			return said, fmt.Errorf("%q came back for %q", back, word)
		}
	}
}
