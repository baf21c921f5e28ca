package control

import (
	"fmt"
	"slices"
	"time"

	"onevoice/admission"
)

// prefixesTold is the body of tellPrefixes.
type prefixesTold struct{ List PrefixList }

// SetPrefixes has all workers go by what a file of prefixes says now. Those that
// begin later get it before they take anything.
func (w *Workers) SetPrefixes(l PrefixList) {
	w.mu.Lock()
	w.keep(l)
	all := slices.Clone(w.all)
	w.mu.Unlock()
	if !slices.Contains(w.cfg.Settings.Config.PrefixFiles(), l.File) {
		return
	}
	for _, one := range all {
		w.tellPrefixes(one, l)
	}
}

// keep is for callers that hold the lock.
func (w *Workers) keep(l PrefixList) {
	w.edition++
	for i := range w.prefixes {
		if w.prefixes[i].File == l.File {
			w.prefixes[i] = l
			return
		}
	}
	w.prefixes = append(w.prefixes, l)
}

func (w *Workers) tellPrefixes(one *worker, l PrefixList) {
	// A retired worker takes nothing new, and may not know of the file.
	if one.retired {
		return
	}
	if err := one.tell(tellPrefixes, prefixesTold{l}); err != nil {
		w.cfg.Log.Warn("a worker could not be told of a file of prefixes", "pid", one.pid, "file", l.File, "error", err)
	}
}

// ownPrefixes are the lists of the files that these workers' services name, and of
// which edition of all they are.
func (w *Workers) ownPrefixes() (out []PrefixList, edition uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range w.cfg.Settings.Config.PrefixFiles() {
		at := slices.IndexFunc(w.prefixes, func(l PrefixList) bool { return l.File == path })
		if at >= 0 {
			out = append(out, w.prefixes[at])
		} else {
			out = append(out, PrefixList{File: path})
		}
	}
	return out, w.edition
}

// tellOwnPrefixes tells a worker of all lists, if they have changed since an edition.
func (w *Workers) tellOwnPrefixes(one *worker, since uint64) {
	if lists, edition := w.ownPrefixes(); edition != since {
		for _, l := range lists {
			w.tellPrefixes(one, l)
		}
	}
}

// SetPrefixes has the workers of all interfaces go by a list, see Workers.SetPrefixes.
func (u *Uplinks) SetPrefixes(l PrefixList) {
	for _, one := range u.all {
		one.Workers.SetPrefixes(l)
	}
}

// receivePrefixes waits for the list of each file that the settings name, so that the
// worker takes nothing new before it has them.
func (g *Guest) receivePrefixes() error {
	for _, path := range g.settings.Config.PrefixFiles() {
		m, files, err := g.first.receive()
		closeAll(files)
		if err != nil {
			return fmt.Errorf("control: no prefixes of %s: %w", path, err)
		}
		if m.Type != tellPrefixes {
			return garbage("%q instead of the prefixes of %s", m.Type, path)
		}
		told, err := decode[prefixesTold](m)
		if err != nil {
			return err
		}
		if told.List.File != path {
			return garbage("the prefixes of %s instead of those of %s", told.List.File, path)
		}
		g.lists[path] = admission.NewList(told.List.Prefixes)
	}
	return nil
}

// PrefixLists are what the files of prefixes said when the worker began.
func (g *Guest) PrefixLists() map[string]*admission.List { return g.lists }

// takePrefixes obeys tellPrefixes. The list is made beside the loop.
func (g *Guest) takePrefixes(told *prefixesTold) error {
	path := told.List.File
	if !slices.Contains(g.settings.Config.PrefixFiles(), path) {
		return garbage("prefixes of a file that no service names")
	}
	list := admission.NewList(told.List.Prefixes)
	// A loop that has ended denies nobody any more.
	_ = g.parts.Loop.Call(func(time.Duration) { g.parts.Node.SetPrefixList(path, list); g.lists[path] = list })
	return nil
}
