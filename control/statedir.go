package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"onevoice/cluster"
	"onevoice/internal/journal"
)

// saveAgain is how long State waits before it tries a write again that a full
// disk has refused.
const saveAgain = time.Second

// State is a host's state directory, written by a goroutine of its own, so that
// a slow disk holds up no heartbeat.
type State struct {
	journal *journal.Journal
	log     *slog.Logger
	// wake is called when Wrote has something.
	wake   func()
	again  time.Duration
	writes chan cluster.Write
	stop   chan struct{}
	once   sync.Once
	ended  chan struct{}
	wrote  atomic.Pointer[cluster.Wrote]
	// trouble is why the write under way does not end, nil while all is well.
	trouble atomic.Pointer[string]
}

// OpenState locks the state directory and reads what was saved. With a lock it
// is that of the process before this one, which has passed it on, and belongs to
// State. wake is called on State's goroutine.
func OpenState(dir string, lock *os.File, wake func(), log *slog.Logger) (*State, cluster.Saved, error) {
	var j *journal.Journal
	var l journal.Loaded
	var err error
	if lock != nil {
		j, l, err = journal.Adopt(dir, lock)
	} else {
		j, l, err = journal.Open(dir)
	}
	if err != nil {
		return nil, cluster.Saved{}, err
	}
	if note := l.Note(); note != "" {
		log.Warn(note, "state_dir", dir)
	}
	s := &State{journal: j, log: log, wake: wake, again: saveAgain, writes: make(chan cluster.Write, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go s.run()
	return s, cluster.Saved{Image: l.Snapshot, Records: l.Records}, nil
}

// Save begins to make a write durable; Wrote tells of its end. There is one at a
// time.
func (s *State) Save(w cluster.Write) {
	select {
	case s.writes <- w:
	default:
		panic("control: a write was begun before the one before it had ended")
	}
}

// Wrote is the write that has ended since the last call, if any.
func (s *State) Wrote() (cluster.Wrote, bool) {
	w := s.wrote.Swap(nil)
	if w == nil {
		return cluster.Wrote{}, false
	}
	return *w, true
}

// Waiting tells whether Wrote has something. A loop asks once more before it
// sleeps, see Poller.Sleep.
func (s *State) Waiting() bool { return s.wrote.Load() != nil }

// Trouble is why nothing can be saved at this time, or nothing. Any goroutine may
// ask.
func (s *State) Trouble() string {
	if text := s.trouble.Load(); text != nil {
		return *text
	}
	return ""
}

// Pass waits for a write under way and ends all writing. The lock that it returns
// is for the next process.
func (s *State) Pass() (*os.File, error) {
	s.end()
	return s.journal.Pass()
}

// Close is Pass without a next process.
func (s *State) Close() error {
	s.end()
	return s.journal.Close()
}

func (s *State) end() {
	s.once.Do(func() { close(s.stop) })
	<-s.ended
}

func (s *State) run() {
	defer close(s.ended)
	for {
		select {
		case <-s.stop:
			return
		case w := <-s.writes:
			err := s.write(w)
			if errors.Is(err, errStopped) {
				return
			}
			s.wrote.Store(&cluster.Wrote{Seq: w.Seq, Err: err})
			s.wake()
		}
	}
}

var errStopped = errors.New("control: stopped before the disk had room")

// write tries until it is done or hopeless. A core that waits makes no promise,
// so a disk that is full for a while costs time only.
func (s *State) write(w cluster.Write) error {
	again := time.NewTicker(s.again)
	defer again.Stop()
	for told := false; ; told = true {
		err := s.try(w)
		if err == nil {
			s.trouble.Store(nil)
			if told {
				s.log.Info("the state could be saved again")
			}
			return nil
		}
		if s.journal.Broken() != nil {
			return fmt.Errorf("the state cannot be saved, so this node can promise nothing any more: %w", err)
		}
		text := err.Error()
		s.trouble.Store(&text)
		if !told {
			s.log.Error("the state cannot be saved; this node changes nothing until it can", "error", err)
		}
		select {
		case <-s.stop:
			return errStopped
		case <-again.C:
		}
	}
}

func (s *State) try(w cluster.Write) error {
	if w.Image != nil {
		return s.journal.Replace(w.Image, w.Records)
	}
	return s.journal.Append(w.Records)
}
