package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
)

const (
	journalName = "journal"
	newName     = "journal.new"
)

var (
	errPassed = errors.New("the state directory was passed to a successor")
	errClosed = errors.New("the journal is closed")
)

// folder is a directory, as the operating system has it or as a test wants it.
type folder interface {
	// read fails with fs.ErrNotExist if there is no such file.
	read(name string) ([]byte, error)
	open(name string) (file, error)
	// create makes an empty file in place of any other.
	create(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	// sync makes the names durable.
	sync() error
}

// file is open for writing.
type file interface {
	WriteAt(b []byte, at int64) (int, error)
	Truncate(size int64) error
	// Sync makes contents and length durable.
	Sync() error
	Close() error
}

// store is the journal proper: what is written in which order.
type store struct {
	folder     folder
	file       file
	generation uint64
	tail       tail
	newID      func() [16]byte
	buf        []byte
	// broken is why nothing can be written any more.
	broken error
}

// openStore loads what is there, or makes an empty journal.
func openStore(f folder, newID func() [16]byte) (*store, Loaded, error) {
	s := &store{folder: f, newID: newID}
	b, err := f.read(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.replace(nil, nil); err != nil {
			return nil, Loaded{}, err
		}
		return s, Loaded{}, nil
	}
	if err != nil {
		return nil, Loaded{}, err
	}
	c, err := parse(b)
	if err != nil {
		return nil, Loaded{}, err
	}
	if s.file, err = f.open(journalName); err != nil {
		return nil, Loaded{}, err
	}
	s.generation, s.tail = c.generation, c.tail
	l := Loaded{Snapshot: c.snapshot, Records: c.records, Cut: c.torn, CutAt: c.tail.end}
	if c.torn > 0 {
		// Nothing must stand behind the next append, which makes this durable too.
		if err := s.file.Truncate(s.tail.end); err != nil {
			s.file.Close()
			return nil, Loaded{}, fmt.Errorf("cut a torn write off: %w", err)
		}
	}
	return s, l, nil
}

func (s *store) append(records [][]byte) error {
	if s.broken != nil {
		return s.broken
	}
	if len(records) == 0 {
		return nil
	}
	n := batchBytes(records)
	if n > MaxBatchBytes || s.tail.end+int64(n) > MaxFileBytes {
		return fmt.Errorf("append %d bytes to a journal of %d: at most %d at a time and %d in all; replace it by a snapshot", n, s.tail.end, MaxBatchBytes, MaxFileBytes)
	}
	b, next := s.tail.appendBatch(s.buf[:0], records)
	s.buf = b
	if _, err := s.file.WriteAt(b, s.tail.end); err != nil {
		// A part of it may be there. Nobody relies on it, and the next append
		// overwrites it, but a longer remainder must not follow that.
		if cut := s.file.Truncate(s.tail.end); cut != nil {
			s.broken = fmt.Errorf("append: %w; and it cannot be taken back: %w", err, cut)
			return s.broken
		}
		return fmt.Errorf("append: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		// After a failed sync the kernel may call pages clean that never reached
		// the disk, so nothing written from here on would be safe.
		s.broken = fmt.Errorf("append: sync: %w", err)
		return s.broken
	}
	s.tail = next
	return nil
}

func (s *store) replace(snapshot []byte, records [][]byte) error {
	if s.broken != nil {
		return s.broken
	}
	if len(snapshot) > MaxBatchBytes-4 || batchBytes(records) > MaxBatchBytes {
		return fmt.Errorf("replace the journal: a snapshot of %d bytes and records of %d; at most %d each", len(snapshot), batchBytes(records), MaxBatchBytes)
	}
	if s.generation == math.MaxUint64 {
		return errors.New("replace the journal: no generation is left")
	}
	b, next := makeFile(s.generation+1, s.newID(), snapshot, records)
	f, err := s.writeNew(b)
	if err != nil {
		s.folder.remove(newName)
		return fmt.Errorf("replace the journal: %w", err)
	}
	// From here on either file may be found after a crash, and this one must not
	// go on writing to the wrong one.
	if err := s.folder.rename(newName, journalName); err != nil {
		f.Close()
		s.broken = fmt.Errorf("replace the journal: %w", err)
		return s.broken
	}
	if err := s.folder.sync(); err != nil {
		f.Close()
		s.broken = fmt.Errorf("replace the journal: sync the directory: %w", err)
		return s.broken
	}
	if s.file != nil {
		s.file.Close()
	}
	s.file, s.tail = f, next
	s.generation++
	return nil
}

// writeNew makes the new file durable under its first name.
func (s *store) writeNew(b []byte) (file, error) {
	f, err := s.folder.create(newName)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return nil, fmt.Errorf("sync: %w", err)
	}
	return f, nil
}

// stop ends all writing.
func (s *store) stop(why error) error {
	if s.broken == nil {
		s.broken = why
	}
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
