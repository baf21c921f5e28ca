package cluster

import (
	"testing"
	"time"
)

// FuzzSaved: whatever a state directory holds behind its sums, a host either says
// that it cannot be used, or starts, and has no lease that nobody gave it.
func FuzzSaved(f *testing.F) {
	m := newMould(f, 3)
	records := func(n int) []byte {
		if n < len(m.saved.Records) {
			return m.saved.Records[n]
		}
		return nil
	}
	f.Add(m.saved.Image, records(0), records(1))
	f.Add(m.saved.Image, []byte(nil), []byte(nil))
	f.Add([]byte(nil), records(0), []byte(nil))
	c := newCodec()
	var im image
	if err := c.dec.Unmarshal(m.saved.Image, &im); err == nil {
		im.Own.ID++
		f.Add(c.marshal(im), records(0), []byte(nil))
		im.Entries = append(im.Entries, im.Entries...)
		f.Add(c.marshal(im), c.marshal(record{Entries: im.Entries, Hard: im.Hard}), c.marshal(record{Own: &own{ID: 1, Epoch: 1 << 63}}))
		im.Version = 77
		f.Add(c.marshal(im), []byte(nil), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, image, first, second []byte) {
		saved := Saved{Image: image}
		for _, r := range [][]byte{first, second} {
			if len(r) > 0 {
				saved.Records = append(saved.Records, r)
			}
		}
		core, err := New(m.options, saved, m.now, false)
		if err != nil {
			return
		}
		v := &victim{t: t, core: core, now: m.now}
		v.step(nil)
		v.pass(time.Second)
		alone := core.table != nil && len(core.table.voters().Voters) < 2
		if core.holder != nil && core.holder.leased(v.now) && !alone {
			t.Error("it has a lease, and nobody else is there")
		}
		if v.failed != nil && !v.noted("stopped: ") {
			t.Errorf("it has stopped with %v and says nothing", v.failed)
		}
	})
}
