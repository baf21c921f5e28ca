package web

// datagrams are the flows of UDP services, and what waits for a fragment.
func (c collector) datagrams() []family {
	d, f := &c.Datagrams, &c.Fragments
	return []family{
		gauge("udp_flows", "How many UDP flows there are here.", count(d.Flows)),
		gauge("udp_flows_limit", "How many UDP flows there may be here.", count(d.Limit)),
		counter("udp_flows_begun_total", "UDP flows that began.", count(d.Begun)),
		counter("udp_flows_ended_total", "UDP flows that are over, by how.",
			count(d.Idle, "idle"), count(d.LetGo, "let-go"), count(d.ClientGone, "client-gone"), count(d.NoSocket, "no-socket")).by("how"),
		counter("datagrams_total", "Datagrams of UDP flows, from clients (up) and to them (down).",
			count(d.DatagramsUp, "up"), count(d.DatagramsDown, "down")).by("direction"),
		counter("datagrams_lost_total", "Datagrams that met a full socket (up), or were too long for the client's family (down).",
			count(d.LostUp, "up"), count(d.LostDown, "down")).by("direction"),
		counter("datagrams_refused_total", "Datagrams that found no program at the backend's port, and those of which the client was told.",
			count(d.Refused, "refused"), count(d.Unreachable, "told")).by("what"),
		counter("datagrams_fragmented_total", "Answers that left in several packets.", count(d.Fragmented)),
		counter("udp_bytes_total", "Bytes of UDP flows, from clients (up) and to them (down).", count(d.BytesUp, "up"), count(d.BytesDown, "down")).by("direction"),
		gauge("reassembly_datagrams", "How many datagrams lack a fragment now.", count(f.Waiting)),
		gauge("reassembly_bytes", "What they take.", count(f.Bytes)),
		counter("reassembly_failed_total", "Datagrams of which a fragment did not come in time, or that had to make room for others.",
			count(f.TimedOut, "timed-out"), count(f.GivenUp, "given-up")).by("how"),
	}
}
