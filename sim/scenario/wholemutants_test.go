package scenario

// wholeMutants are faults of what only the tier with netstack runs, and of the
// gate towards it.
func wholeMutants() []mutant {
	return []mutant{
		one("half-close lost", "the first direction that ends takes the other with it", "../proxy/pump.go",
			"if p.up.finished && p.down.finished {", "if p.up.finished || p.down.finished {"),
		one("a byte lost", "of what a slow side does not take a byte is lost", "../proxy/pump.go",
			"p.pending = append([]byte(nil), b...)", "p.pending = append([]byte(nil), b[1:]...)"),
		one("an end unsaid", "an end is not passed on", "../proxy/pump.go", "	return dst.CloseWrite()\n", "	return nil\n"),
		one("drained flows dropped", "a segment of a flow in another's bucket is dropped", "../node/tcp.go",
			"	case answers:\n	case state", "	case answers:\n	case !answers:\n		return OutsideWindows\n	case state"),
		one("half-closed unknown", "a flow whose client has said its last is taken for one that netstack does not have", "../stack/gate.go",
			"tcp.StateFinWait2, tcp.StateCloseWait:", "tcp.StateFinWait2:"),
	}
}
