package main

import (
	"fmt"
	"net/netip"

	"onevoice/config"
	"onevoice/control"
)

// accessList is one list of who may or may not, as people know it.
type accessList struct {
	name     string
	denies   bool
	prefixes []netip.Prefix
}

// accessOf are the lists that count for a service, in the order in which two prefixes
// of one length count; see admission.Access. files are what the files of prefixes say.
func accessOf(cfg *config.Config, s *config.Service, files []control.PrefixList) (out []accessList) {
	add := func(name string, denies bool, prefixes []netip.Prefix, file string) {
		if len(prefixes) > 0 {
			out = append(out, accessList{name, denies, prefixes})
		}
		if file == "" {
			return
		}
		of := accessList{name: file, denies: denies}
		for _, f := range files {
			if f.File == file {
				of.prefixes = f.Prefixes
			}
		}
		out = append(out, of)
	}
	a := &s.Access
	add("deny of service "+s.Name, true, a.Deny, a.DenyFile)
	add("allow of service "+s.Name, false, a.Allow, a.AllowFile)
	add("[access] deny", true, cfg.Access.Deny, cfg.Access.DenyFile)
	add("[access] allow", false, cfg.Access.Allow, cfg.Access.AllowFile)
	return out
}

// admits says whether lists let a client begin, and why; why is "" where there are
// none.
func admits(lists []accessList, client netip.Addr) (may bool, why string) {
	if len(lists) == 0 {
		return true, ""
	}
	longest, by, allows := netip.Prefix{}, "", false
	for _, l := range lists {
		allows = allows || !l.denies
		for _, p := range l.prefixes {
			if p.Contains(client) && (by == "" || p.Bits() > longest.Bits()) {
				longest, by, may = p, l.name, !l.denies
			}
		}
	}
	switch {
	case by != "":
		return may, fmt.Sprintf("%s in %s", longest, by)
	case allows:
		return false, "who may is written down, and it is in no prefix of those"
	}
	return true, "no prefix of those who may not has it"
}

// admitted says of a question whether its client may begin.
func (q *question) admitted(files []control.PrefixList) {
	if q.service == nil {
		return
	}
	may, why := admits(accessOf(q.cfg, q.service, files), q.flow.Src)
	q.answer.Denied, q.answer.AccessWhy = !may, why
	if !may {
		q.answer.AccessWhy += "; it meets " + string(q.service.DenyAction)
	}
}
