package scenario

// wholeMutants are faults of what only the tier with netstack runs, and of the
// gate towards it.
func wholeMutants() []mutant {
	return []mutant{
		one("half-close lost", "the first direction that ends takes the other with it", "../proxy/pump.go",
			"if p.up.finished && p.down.finished {", "if p.up.finished || p.down.finished {"),
		one("a byte lost", "of what a slow side does not take a byte is lost", "../proxy/pump.go",
			"d.pending = append([]byte(nil), b...)", "d.pending = append([]byte(nil), b[1:]...)"),
		one("an end unsaid", "an end is not passed on", "../proxy/pump.go", "			return false, dst.CloseWrite()\n", "			return false, nil\n"),
		one("not gone on", "a flow that had its share of a turn gets no other", "../stack/flow.go", "	case proxy.More:\n		s.ready.put(f)\n", "	case proxy.More:\n"),
		one("drained flows dropped", "a segment of a flow in another's bucket is dropped", "../node/tcp.go",
			"	case answers:\n	case state", "	case answers:\n	case !answers:\n		return Handled{Verdict: OutsideWindows}\n	case state"),
		one("window scale forgotten", "windows are taken for smaller than they are", "../node/windows.go", "		size <<= w.scale\n", ""),
		one("accepted late", "a SYN-ACK leaves after the lease and for any bucket", "../node/egress.go",
			"if !n.rights[service].lease.covers(now) || !n.ownership.Services[service].Accept.Has(bucket) {", "if false {"),
		one("stale SYNs taken", "what waited while a node stood still is taken for new", "../node/lease.go",
			"	return age < 0 || now-age < max(l.begin, began)", "	return false && age < max(l.begin, began)"),
		one("not silent", "what netstack says of a forgotten flow leaves", "../node/egress.go", "	case e != nil && e.muted:\n		return Muted\n", ""),
	}
}
