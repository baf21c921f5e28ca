package scenario

// mutant is a fault to be planted into the cluster core.
type mutant struct {
	name, why string
	edits     []edit
	// harmless says why nothing sees it.
	harmless string
	// run are the tests that are to see it, "" for any.
	run string
}

// edit replaces a text that is in a file once; the file is named from the cluster
// folder.
type edit struct{ file, old, new string }

func one(name, why, file, old, new string) mutant {
	return mutant{name: name, why: why, edits: []edit{{file, old, new}}}
}

// harmless is a fault that another rule covers, which is why nothing sees it.
func harmless(m mutant, why string) mutant {
	m.harmless = why
	return m
}

// mutants are the planted faults.
func mutants() []mutant {
	return append(append(append(leaseMutants(), voterMutants()...), append(tableMutants(), diskMutants()...)...), append(append(append(gateMutants(), synMutants()...), wholeMutants()...), directMutants()...)...)
}

// gateMutants are faults of what stands before netstack.
func gateMutants() []mutant {
	return []mutant{
		one("resets beside drainers", "the gate resets strays that others may hold", "../node/tcp.go",
			"	rows := &n.ownership.Services[service]\n	switch {\n	case rows.Grace", "	rows := &Rows{}\n	switch {\n	case rows.Grace"),
		one("SYNs of others", "the gate lets SYNs of any bucket in", "../node/node.go", "	case !r.accept.Has(bucket):\n		return NotOwner\n", ""),
		one("SYNs without a lease", "the gate does not look at the lease", "../node/node.go", "	case !r.lease.covers(now):\n		return NoLease\n", ""),
		mutant{name: "strays reach netstack", why: "strays for others' buckets go to netstack, and its resets leave", edits: []edit{
			{"../node/tcp.go", "	if verdict != Undecided {\n		return verdict\n	}\n	why :=", "	if verdict != Undecided {\n		return n.deliver(now, DeliverStray)\n	}\n	why :="},
			{"../node/egress.go", "	if n.rights[service].lease.covers(now) && n.ownership.Services[service].Accept.Has(bucket) &&\n		n.mayReset(service, bucket, &s.flow) == Undecided {", "	if bucket < 255 || n.mayReset(service, bucket, &s.flow) == Undecided {"}}},
	}
}

// synMutants are faults of which SYN a SYN-ACK answers.
func synMutants() []mutant {
	all := []mutant{
		one("a SYN-ACK repeated for an old SYN", "netstack repeats a SYN-ACK when its bucket or lease went away and has come back", "../node/egress.go",
			"		case !ours || !n.askedUs(service, e):\n", "		case !ours:\n"),
		one("a SYN-ACK repeated under an old right", "since when the client has asked is compared with the bucket's time alone", "../node/right.go",
			"	return max(r.lease.begin, r.since[bucket])", "	return r.since[bucket]"),
		one("a SYN-ACK repeated without a right", "what a half-open flow repeats leaves whosever the bucket is", "../node/egress.go",
			"		case !ours || !n.askedUs(service, e):\n", "		case ours && !n.askedUs(service, e):\n"),
		harmless(one("a first SYN-ACK for an old SYN", "what our TCP has made of a SYN from before the right leaves", "../node/egress.go",
			"	if !ours || n.answersOld(now, service, bucket, s) {", "	if !ours {"),
			"a simulated TCP answers a SYN in the turn that brings it, and no right comes and goes in a turn"),
		one("SYNs from before the right", "a SYN is let in that came when its bucket was another node's", "../node/lease.go",
			"	return age < 0 || now-age < max(l.begin, began)\n", "	return age < 0\n"),
	}
	for i := range all {
		all[i].run = "^TestFrames$|^TestSYNACKs"
	}
	return all
}

// directMutants are faults of the direct path: of its rule, of what tells the programs, and
// of the programs, which are a model here.
func directMutants() []mutant {
	all := []mutant{
		one("direct: settled ignored", "the kernel may reset strays of buckets that others drain", "../control/workersdirect.go",
			"next.Settled[k] = r.Accept[k] &^ (r.Grace[k] | r.Shared[k])", "next.Settled[k] = r.Accept[k]"),
		one("direct: lease not compared", "the programs go on under a lease that is over", "../sim/scenario/kernel.go",
			"if p.k.h.clock.Now() >= p.lease(service) {", "if p.lease(service) < 0 {"),
		one("direct: resets leave", "the program on the way out lets the kernel reset what others hold", "../node/steer.go",
			"		return ingress.KeptReset\n", "		return ingress.Elsewhere\n"),
		one("direct: SYNs of others", "the kernel gets SYNs of any bucket", "../node/steer.go",
			"		return ingress.ForeignSYN\n", "		return ingress.PassSYN\n"),
		one("direct: a SYN-ACK repeated for an old SYN", "the kernel repeats a SYN-ACK when its bucket or lease went away and has come back", "../node/steer.go",
			"!(b.Owned && b.Asked)", "!b.Owned"),
		one("direct: since when is not told", "programs are not told that a bucket has come back", "../control/workersdirect.go",
			"				next.Since[b] = now\n", "				next.Since[b] = max(next.Since[b], 0*now)\n"),
		one("direct: a lease's begin is not told", "programs are not told that a lease is another", "../control/workersdirect.go",
			"	d.cfg.Programs.SetLease(path, begin, end)\n", "	d.cfg.Programs.SetLease(path, 0*begin, end)\n"),
	}
	all = append(all, listMutants()...)
	for i := range all {
		all[i].run = "^TestDirect|^TestSYNACKs"
	}
	return all
}

// listMutants are faults of the lists of drainers' flows (R14, R17).
func listMutants() []mutant {
	const lists, sockets = "../control/workersdirectlists.go", "../control/workersdirectsockets.go"
	return []mutant{
		one("lists: complete too early", "a bucket is listed before each drainer's list is there", "../control/flowlists.go",
			"if !ok || !l.complete || l.epoch != d.Epoch || l.index < row.Since || now-l.at > listTime {", "if ok && (!l.complete || l.epoch != d.Epoch || l.index < row.Since || now-l.at > listTime) {"),
		one("lists: incomplete ones count", "a list that lacks flows counts as complete", "../control/flowlists.go",
			"!l.complete || l.epoch", "l.epoch"),
		one("lists: not current", "a list counts that was made before its sender took on flows anew", "../control/flowlists.go",
			"l.index < row.Since || ", ""),
		harmless(one("lists: of older rights", "a list is made while the worker may take on more", "../control/lister.go",
			"held.Generation < d.Generation", "false"),
			"a bucket has another owner only when its worker has written back that it takes nothing there, or without a lease"),
		one("lists: untold is empty", "the programs list a bucket that nothing was told of", lists,
			"case !told || !d.shared", "case !told && false || !d.shared"),
		one("lists: of another ownership", "what was told of lists outlives the ownership that it was told for", lists,
			"	l.told = map[drainedBucket][]uint64{}\n", ""),
		one("lists: bit before flows", "a bucket is listed when programs may run that do not see its flows", lists,
			"d.lists.fresh = d.waits() != nil", "d.lists.fresh = false"),
		one("lists: TIME-WAIT left out", "connections that are over are not on the list", sockets,
			"d.sockets(inetdiag.Wanted{Over: true}, true)\n	if err != nil {\n		return 0, err\n	}\n	// A cookie", "d.sockets(inetdiag.Wanted{}, true)\n	if err != nil {\n		return 0, err\n	}\n	// A cookie"),
		one("lists: cookies forgotten", "a list is complete while SYN cookies may come back", sockets,
			"h.Overflow || cookies", "h.Overflow"),
		one("lists: no reset leaves", "the reset that a list allows is kept back", "../node/steer.go",
			"b.Settled || b.Excluded || refusal", "b.Settled || refusal"),
	}
}

func leaseMutants() []mutant {
	return []mutant{
		one("no self-fence", "a lease outlives the promises that it is made of", "timing.go",
			"return sent + ttl - ttl*2*DriftPPM/1_000_000 - Guard", "return sent + 4*ttl"),
		one("epoch unbound", "rows are used under whatever epoch this node has", "rights.go",
			"mine := me.In && me.Epoch == c.holder.low && ", "mine := me.In && "),
		one("promise of any epoch", "a promise to another epoch counts", "lease.go",
			"a.set == voters.Index && a.low <= epoch && epoch <= a.high", "a.set == voters.Index"),
		harmless(one("voter index ignored", "a promise counts in a voter set that it was not given in", "lease.go",
			"a.voter == v && a.set == voters.Index && ", "a.voter == v && "),
			"a promise is its voter's own until it runs out, whatever set it was given in; the set that counts it is the one that this node has applied"),
		one("a minority is enough", "a lease needs one voter less", "lease.go",
			"	if n < voters.majority() {\n		return\n	}\n	slices.Sort(ends[:n])\n	end := ends[n-voters.majority()]",
			"	if n < max(voters.majority()-1, 1) {\n		return\n	}\n	slices.Sort(ends[:n])\n	end := ends[n-max(voters.majority()-1, 1)]"),
		one("behind and leased", "who does not apply the log keeps its lease", "support.go", "a.promised = !h.Behind && ", "a.promised = "),
		one("not suspended", "after a gap the old lease goes on", "core.go", "		c.holder.suspend(c.now)\n", ""),
		harmless(one("no rebase", "a lease of an older voter set goes on under a new epoch", "duty.go", "	h.rebase(c.table.voters())\n", ""),
			"whoever would withdraw under the new set has been quiet for a TTL, which outlasts the lease"),
		harmless(one("workers forgotten", "a start withdraws at once from epochs whose workers are alive", "duty.go",
			"	if c.now > c.duties.heldUntil {\n", "	if c.now >= 0 {\n"),
			"a node that speaks under a later epoch is evicted after a TTL of silence at the earliest, and its workers' lease is over then"),
		harmless(one("rests forgotten", "a start says at once that no lease of its workers rests on an older voter set", "beat.go",
			"	if c.now <= c.duties.heldUntil {\n", "	if c.now < 0 {\n"),
			"for the same reason: nobody withdraws in time to evict it, whatever the set"),
	}
}

func voterMutants() []mutant {
	return []mutant{
		mutant{name: "hold dropped", why: "a voter withdraws right after its start", edits: []edit{
			{"support.go", "hold := s.booted + max(t.LongestTTL, t.Timing.TTL, s.promisedTTL)", "hold := 0*s.booted + 0*t.LongestTTL"},
			{"support.go", " || now <= m.joined+t.Timing.TTL:", ":"}}},
		one("TTL shrinks", "a voter that starts holds only the present TTL", "support.go",
			"hold := s.booted + max(t.LongestTTL, t.Timing.TTL, s.promisedTTL)", "hold := s.booted + t.Timing.TTL"),
		one("withdrawn early", "a voter withdraws before its promise has run out", "support.go",
			"case now <= m.until ||", "case now <= m.until-t.Timing.TTL/2 ||"),
		one("older promises forgotten", "a voter withdraws while promises to older epochs last", "support.go",
			"|| m.wanted > h.Epoch || now <= m.olderUntil {", "|| m.wanted > h.Epoch {"),
		one("promises again", "a voter promises to an epoch that it has withdrawn from", "support.go",
			"low: max(h.Low, m.below, m.wanted)", "low: h.Low"),
		one("told before written", "a withdrawal is told before it is durable", "support.go",
			"m.wanted, m.withdrewAt = below, now", "m.wanted, m.below, m.withdrewAt = below, below, now"),
		one("one withdrawal too few", "an eviction leaves a majority of promises", "table.go",
			"	return n < s.majority()\n", "	return n <= s.majority()\n"),
		mutant{name: "newest set only", why: "an eviction asks only the newest voter set", edits: []edit{
			{"apply.go", "		if !t.Sets[i].blocked(withdrew) {", "		if i == len(t.Sets)-1 && !t.Sets[i].blocked(withdrew) {"},
			{"beat.go", "		if !c.table.Sets[i].blocked(func", "		if i == len(c.table.Sets)-1 && !c.table.Sets[i].blocked(func"}}},
		one("settled at once", "older voter sets are dropped while leases rest on them", "duty.go",
			"		case m.low < h.Epoch || m.rests < newest.Index:\n", "		case m.low < h.Epoch && m.low > h.Epoch:\n"),
		one("deaf node supported", "a node that does not hear keeps its promises", "support.go",
			" && !s.deaf(now, t, m, h.Sent)", ""),
		harmless(one("new voter at once", "a new voter supports and withdraws at once", "duty.go",
			"		c.voter.quietUntil = c.now + max(c.table.Timing.TTL, c.table.LongestTTL)\n", ""),
			"a voter that comes again remembers what it promised, and one that has started since holds it (R9)"),
		one("witness supports all", "a witness supports two nodes that do not hear each other", "beat.go",
			"		if !betterEvidence(h, me, m, o) {\n			return false\n		}\n", "		_ = betterEvidence(h, me, m, o)\n"),
		one("removed voters are stuck", "who votes no more in the newest set cannot withdraw", "support.go",
			"!t.votes(s.self)", "!t.voters().has(s.self)"),
	}
}

func tableMutants() []mutant {
	return []mutant{
		mutant{name: "foreign buckets planned", why: "a leader gives another system's buckets to their homes by itself", edits: []edit{
			{"sharing.go", "owner != nil && owner.Foreign {\n			kept", "owner != nil && owner.Foreign && cur[b] == 0 {\n			kept"},
			{"lead.go", "from == nil || from.Foreign {", "from == nil {"}}},
		one("foreign buckets recovered", "who is left after a majority was lost takes another system's buckets too", "recover.go", "h.ID != id && !h.Foreign", "h.ID != id"),
		one("foreign buckets dealt", "a new service begins with all buckets ours", "sharing.go", "			r.Owner, r.To = foreign.Slot+1, 0\n", "			r.To = 0\n"),
		one("move without release", "a move makes the new owner at once", "apply.go",
			"		r.To, r.Moved = to.Slot+1, index\n", "		r.Moved = index\n		r.Drainers |= bit(r.Owner - 1)\n		r.give(to.Slot + 1)\n"),
		mutant{name: "released unwritten", why: "rows are released before the workers have written that back", edits: []edit{
			{"duty.go", "r.To != 0 && r.Moved <= c.rights.written", "r.To != 0"},
			{"duty.go", "c.propose(\"release \"+number(c.rights.written), &command{Kind: kindReleased, ID: c.id, Epoch: me.Epoch, Index: c.rights.written})",
				"c.propose(\"release \"+number(c.rights.written), &command{Kind: kindReleased, ID: c.id, Epoch: me.Epoch, Index: c.table.Index})"}}},
		one("mapping unbound", "a node answers by a mapping that is not the table's", "rights.go",
			" && s.Next == nil && s.Mapping.Digest == spec.Digest", ""),
		one("mapped anew at once", "a new mapping does not wait for those who answer by the old one", "remap.go",
			"	if s.Next == nil || s.Holders != 0 {", "	if s.Next == nil {"),
		one("remapped unwritten", "a holder gives a mapping up before its workers have written that back", "duty.go",
			" && s.NextIndex <= c.rights.written", ""),
		one("mapping forgets drainers", "under a new mapping nobody drains who owned", "remap.go",
			"			drainers |= bit(r.Owner - 1)\n", ""),
		one("drained clears a newer drainer", "a report from before a move ends the draining after it", "apply.go",
			"c.Buckets.has(uint8(b)) && r.Since <= c.Index", "c.Buckets.has(uint8(b))"),
		mutant{name: "drained unseen", why: "a node says drained by a report of before it drained", edits: []edit{
			{"duty.go", " && r.Since <= c.rights.looked", ""},
			{"duty.go", "Buckets: done, Index: c.rights.looked", "Buckets: done, Index: c.table.Index"}}},
		one("no grace", "flows of an evicted node may be reset at once", "apply.go",
			"				r.Grace |= me\n", "				_ = me\n"),
		one("orphaned at once", "an evicted node is taken for dead without waiting", "duty.go",
			"orphanAfter = 3 * time.Second", "orphanAfter = 100 * time.Millisecond"),
		one("flows come back", "a node that joins after it was taken for dead keeps its flows", "apply.go",
			"bare := !c.Flows || !h.In && (h.Orphaned || h.Epoch == 0)", "bare := !c.Flows"),
		one("shared unseen", "an owner may reset a drainer's flows", "rights.go",
			"if r.Drainers&^bit(me.Slot) != 0 || !owned && r.Owner != 0 {", "if !owned && r.Owner != 0 {"),
		one("rows before a second", "who comes back gets rows at once", "apply.go",
			"		h.Waits = h.Epoch > 0 &&", "		h.Waits = false && h.Epoch > 0 &&"),
		one("replaced at once", "a host is removed while it may still hold flows", "lead.go",
			"func (h *Host) over() bool { return !h.In && (h.Orphaned || h.Epoch == 0) }", "func (h *Host) over() bool { return !h.In }"),
		one("taken for dead unheard", "a node that holds a lease is taken for dead", "duty.go",
			"seen >= 0 && c.now-seen < wait+c.table.Timing.TTL", "seen >= 0 && c.now < 0"),
	}
}

func diskMutants() []mutant {
	return []mutant{
		one("withdrawals forgotten", "withdrawals are lost in a restart", "agree.go",
			"c.voter = newSupporter(c.id, c.now, c.disk.own.Below)", "c.voter = newSupporter(c.id, c.now, nil)"),
		one("epoch forgotten", "a start takes the epoch of the one before", "agree.go", "	c.disk.own.Epoch++\n", "	c.disk.own.Epoch = max(c.disk.own.Epoch, 1)\n"),
		one("old id on an empty disk", "a host that lost its state comes back under its id", "found.go",
			"c.disk.own.ID = c.o.Random.Uint64() | 1", "c.disk.own.ID = uint64(c.o.Address.As4()[3]) | 256"),
		one("lost snapshot", "a snapshot that was taken in is not written", "agree.go",
			"	if rd.Snapshot != nil && !raft.IsEmptySnap(rd.Snapshot) {\n		o := &c.disk.own\n", "	if rd.Snapshot != nil && rd.Snapshot.GetMetadata().GetIndex() == 0 {\n		o := &c.disk.own\n"),
		one("votes forgotten", "a vote is not written", "agree.go", "	rec.Hard = marshalProto(hs)\n", "	rec.Hard = marshalProto(hs)\n	if len(rd.Entries) == 0 {\n		rec.Hard = nil\n	}\n"),
		one("image without withdrawals", "an image leaves the withdrawals out", "agree.go",
			"	im := &image{Version: Version, Own: o}\n", "	o.Below = nil\n	im := &image{Version: Version, Own: o}\n"),
		mutant{name: "pledge not durable", why: "a blank host forgets in a restart to whom it is pledged", edits: []edit{
			{"found.go", "c.disk.own.Pledge, c.disk.dirty = h.ID, true", "c.disk.own.Pledge = h.ID"}}},
	}
}
