package journal

import (
	"bytes"
	"io/fs"
	"maps"

	"golang.org/x/sys/unix"
)

// disk is a model of a file system that forgets, at a crash, what was not
// synced: any state since the last sync may be found then, writes may be found
// in part, and names and contents are synced apart.
type disk struct {
	names map[string]*inode
	// past are the names as they were at each change since the last sync.
	past []map[string]*inode
	// op counts calls; at crashAt the machine stops within one, from failAt on so
	// many fail.
	op, crashAt, failAt int
	failing             int
	fault               error
}

type inode struct {
	// states since the last sync; the last is what a reader sees.
	states [][]byte
	// lost: a sync has failed and the kernel calls the pages clean.
	lost bool
}

func (n *inode) data() []byte { return n.states[len(n.states)-1] }

// crash is thrown where the machine stops.
type crash struct{}

func newDisk(journal []byte) *disk {
	d := &disk{names: map[string]*inode{}, crashAt: -1, failAt: -1, failing: 1}
	if journal != nil {
		d.names[journalName] = &inode{states: [][]byte{bytes.Clone(journal)}}
	}
	d.past = []map[string]*inode{maps.Clone(d.names)}
	return d
}

// step counts a call, and tells whether the machine stops in it or it fails.
func (d *disk) step() (stops bool, err error) {
	d.op++
	if at := d.op - 1; d.failAt >= 0 && at >= d.failAt && at < d.failAt+d.failing {
		return false, d.fault
	}
	return d.op-1 == d.crashAt, nil
}

// plain is step for calls that are done whole or not.
func (d *disk) plain() error {
	stops, err := d.step()
	if stops {
		panic(crash{})
	}
	return err
}

// renamed records a change of names.
func (d *disk) renamed() { d.past = append(d.past, maps.Clone(d.names)) }

// images are all contents of the journal that may be found after a crash; nil is
// no journal.
func (d *disk) images() (out [][]byte) {
	for _, names := range d.past {
		n := names[journalName]
		if n == nil {
			out = append(out, nil)
			continue
		}
		out = append(out, n.states...)
	}
	return out
}

func (d *disk) read(name string) ([]byte, error) {
	n := d.names[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(n.data()), nil
}

func (d *disk) open(name string) (file, error) {
	if err := d.plain(); err != nil {
		return nil, err
	}
	return &diskModelFile{d, d.names[name]}, nil
}

func (d *disk) create(name string) (file, error) {
	if err := d.plain(); err != nil {
		return nil, err
	}
	n := &inode{states: [][]byte{{}}}
	d.names[name] = n
	d.renamed()
	return &diskModelFile{d, n}, nil
}

func (d *disk) rename(from, to string) error {
	err := d.plain()
	if err == nil || err == unix.EIO { // nobody knows then
		d.names[to] = d.names[from]
		delete(d.names, from)
		d.renamed()
	}
	return err
}

func (d *disk) remove(name string) error {
	delete(d.names, name)
	d.renamed()
	return nil
}

func (d *disk) sync() error {
	if err := d.plain(); err != nil {
		return err
	}
	d.past = []map[string]*inode{maps.Clone(d.names)}
	return nil
}

type diskModelFile struct {
	d *disk
	n *inode
}

// WriteAt fails after half of it, and stops after any number of its bytes, with
// the rest missing or zeros.
func (f *diskModelFile) WriteAt(b []byte, at int64) (int, error) {
	stops, err := f.d.step()
	if err != nil {
		f.put(b[:len(b)/2], at)
		return len(b) / 2, err
	}
	if !stops {
		f.put(b, at)
		return len(b), nil
	}
	whole := len(f.n.states)
	for n := range len(b) + 1 {
		f.n.states = append(f.n.states, written(f.n.states[whole-1], b[:n], at))
		if (int(at)+n)%sectorBytes == 0 && n < len(b) || n == 0 {
			zeros := append(bytes.Clone(b[:n]), make([]byte, len(b)-n)...)
			f.n.states = append(f.n.states, written(f.n.states[whole-1], zeros, at))
		}
	}
	panic(crash{})
}

func (f *diskModelFile) put(b []byte, at int64) {
	f.n.states = append(f.n.states, written(f.n.data(), b, at))
}

func written(data, b []byte, at int64) []byte {
	out := make([]byte, max(len(data), int(at)+len(b)))
	copy(out, data)
	copy(out[at:], b)
	return out
}

func (f *diskModelFile) Truncate(size int64) error {
	if err := f.d.plain(); err != nil {
		return err
	}
	f.n.states = append(f.n.states, bytes.Clone(f.n.data()[:size]))
	return nil
}

func (f *diskModelFile) Sync() error {
	if err := f.d.plain(); err != nil {
		f.n.lost = true
		return err
	}
	if !f.n.lost {
		f.n.states = f.n.states[len(f.n.states)-1:]
	}
	return nil
}

func (f *diskModelFile) Close() error { return nil }

// faults are what a disk says when it cannot.
func faults() []error { return []error{unix.ENOSPC, unix.EIO, unix.EROFS} }
