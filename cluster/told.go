package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxTold bounds what is noted once only, and maxTelling what of it a status
	// tells.
	maxTold    = 128
	maxTelling = 8
	// tellFor is how long a status tells of a thing after it was met last.
	tellFor = 10 * time.Second
)

// told is a thing that was noted, and when it was met last.
type told struct {
	what, text string
	warn       bool
	at         time.Duration
}

// tellOnce notes a thing that would otherwise be noted again and again. What is
// behind the bound is not noted: somebody makes things up.
func (c *Core) tellOnce(what string, warn bool, format string, args ...any) {
	list := c.duties.told
	if i := slices.IndexFunc(list, func(t told) bool { return t.what == what }); i >= 0 {
		list[i].at = c.now
		return
	}
	if len(list) >= maxTold {
		return
	}
	t := told{what, fmt.Sprintf(format, args...), warn, c.now}
	c.duties.told = append(list, t)
	c.note(warn, "%s", t.text)
}

// tellNoMore ends the telling of a thing that is over. When it comes again it is noted
// anew.
func (c *Core) tellNoMore(what string) {
	c.duties.told = slices.DeleteFunc(c.duties.told, func(t told) bool { return t.what == what })
}

// telling are the warnings of things that go on.
func (c *Core) telling(now time.Duration) (out []string) {
	for _, t := range c.duties.told {
		// Services that differ have a place of their own in a status.
		if t.warn && now-t.at < tellFor && !strings.HasPrefix(t.what, "digest ") && len(out) < maxTelling {
			out = append(out, t.text)
		}
	}
	return out
}
