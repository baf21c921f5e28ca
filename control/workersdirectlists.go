package control

import (
	"errors"
	"slices"

	"onevoice/hashing"
	"onevoice/link/ingress"
	"onevoice/node"
)

// What drainers hold of buckets that this node owns, for the programs of the direct path, so
// that the kernel may reset the strays of flows that no drainer has (OWNERSHIP.md R14, R17).
// The programs read a bucket's bit, and then a map with the flows of all listed buckets. The
// order of a change is what keeps a drainer's flow from a reset:
//
//   - flows are in the map, and no program runs any more that began before that, when the
//     bit is set;
//   - the bit is off, and no program runs any more that saw it, when flows leave the map,
//     unless a later list of the same ownership says that they have ended;
//   - rows that are granted have no bit: there may be drainers that nobody knew of.

// drainedBucket is a bucket of a service of cfg.Services.
type drainedBucket struct {
	service int
	bucket  uint8
}

// directLists are what a DirectPath knows of them, under the path's lock.
type directLists struct {
	// told are the complete lists for the ownership that was granted last.
	told map[drainedBucket][]uint64
	// grants counts ownerships.
	grants uint64
	// news: the programs are to be told something, and heard wakes the goroutine for it.
	news  bool
	heard chan struct{}
	// crowded: there were more flows than the programs have room for, failed: the programs
	// could not be told; both were said.
	crowded, failed bool
	// has are flows that are surely in the programs' map, in order; fresh: programs may run
	// that do not see all of them. These belong to the goroutine.
	has   []uint64
	fresh bool
}

// SetFlowLists says which flows drainers hold, as node.SetFlowLists does, for the ownership
// that was granted last: the next Grant takes it back. The hashes are the path's from then
// on. It does not wait.
func (d *DirectPath) SetFlowLists(lists []FlowList) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range lists {
		l := &lists[i]
		k := slices.IndexFunc(d.cfg.Services, func(s DirectService) bool { return s.Index == l.Service && !s.UDP })
		if k < 0 {
			continue
		}
		at := drainedBucket{k, l.Bucket}
		if delete(d.lists.told, at); l.Complete {
			d.lists.told[at] = l.Hashes
		}
		d.lists.news = true
	}
	select {
	case d.lists.heard <- struct{}{}:
	default:
	}
}

// granted takes back what was said of the ownership before. Flows leave the programs' map
// when something is said of this one, or at the next look: most are said again.
func (l *directLists) granted() {
	l.told = map[drainedBucket][]uint64{}
	l.grants++
	l.news = true
}

// list tells the programs what was told. It is for the goroutine; what fails is tried again
// at the next look.
func (d *DirectPath) list() {
	d.mu.Lock()
	if d.retired || d.settling || !d.lists.news {
		d.mu.Unlock()
		return
	}
	d.lists.news = false
	grants, before := d.lists.grants, d.listed()
	bits, lists := d.listable()
	d.mu.Unlock()
	wanted := union(lists...)
	if !slices.ContainsFunc(before, func(b node.Bitmap) bool { return b != node.Bitmap{} }) {
		d.unlist(wanted)
	}
	done := d.enlist(wanted)
	if !done {
		clear(bits)
	}
	d.mu.Lock()
	if d.retired || d.lists.grants != grants {
		d.mu.Unlock()
		return
	}
	if !slices.Equal(before, bits) {
		for i := range d.rows {
			d.rows[i].Listed = bits[i]
		}
		d.publish()
	}
	d.mu.Unlock()
	d.settle()
	d.mu.Lock()
	settled := !d.settling
	d.lists.news = d.lists.news || !settled || !done
	d.mu.Unlock()
	if settled {
		d.unlist(wanted)
	}
}

// listable are the buckets that may be listed, by service, and their flows: what is owned, in
// nobody's grace, and shared with drainers whose lists are known, as far as the programs
// have room. It is for callers that hold the lock.
func (d *DirectPath) listable() (bits []node.Bitmap, lists [][]uint64) {
	bits = make([]node.Bitmap, len(d.rows))
	count, crowded := 0, false
	for k := range bits {
		for b := range hashing.Buckets {
			hashes, told := d.lists.told[drainedBucket{k, uint8(b)}]
			switch {
			case !told || !d.shared[k].Has(uint8(b)):
			case count+len(hashes) > ingress.MaxListed:
				crowded = true
			default:
				bits[k].Set(uint8(b))
				lists, count = append(lists, hashes), count+len(hashes)
			}
		}
	}
	if crowded && !d.lists.crowded {
		d.cfg.Log.Warn("other nodes hold more flows of this node's buckets than the programs of the direct path have room for; strays in some of the buckets meet silence", "room", ingress.MaxListed)
	}
	d.lists.crowded = crowded
	return bits, lists
}

// listed are the buckets that the rows in force list.
func (d *DirectPath) listed() (bits []node.Bitmap) {
	for i := range d.rows {
		bits = append(bits, d.rows[i].Listed)
	}
	return bits
}

// enlist puts the wanted flows into the programs' map, and reports whether every program
// that begins from now on finds them there.
func (d *DirectPath) enlist(wanted []uint64) bool {
	added := without(wanted, d.lists.has)
	if len(added) == 0 && !d.lists.fresh {
		return true
	}
	if err := d.cfg.Programs.List(added); err != nil {
		// Which of them are there is not known.
		err = errors.Join(err, d.cfg.Programs.Unlist(added))
		if !d.lists.failed {
			d.cfg.Log.Error("the programs of the direct path cannot be told what other nodes hold; strays in buckets that these drain meet silence", "error", err)
		}
		d.lists.failed = true
		return false
	}
	d.lists.failed = false
	d.lists.has = union(d.lists.has, added)
	d.lists.fresh = d.waits() != nil
	return !d.lists.fresh
}

// unlist takes all flows but the wanted ones from the programs' map.
func (d *DirectPath) unlist(wanted []uint64) {
	gone := without(d.lists.has, wanted)
	d.lists.has = without(d.lists.has, gone)
	if err := d.cfg.Programs.Unlist(gone); err != nil {
		d.cfg.Log.Warn("the programs of the direct path know of flows that other nodes held; strays of these meet silence", "error", err)
	}
}

// without is the numbers of a that are not in b, both in order.
func without(a, b []uint64) (out []uint64) {
	for _, v := range a {
		for len(b) > 0 && b[0] < v {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != v {
			out = append(out, v)
		}
	}
	return out
}

// union is the numbers of all, in order.
func union(all ...[]uint64) []uint64 {
	out := slices.Concat(all...)
	slices.Sort(out)
	return slices.Compact(out)
}
