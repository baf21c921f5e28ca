// Package sim is a LAN on virtual time: an event clock, hosts' clocks, hubs
// and switches, datagrams beside them, disks, client stations, and faults. It
// knows frames, not nodes.
//
// Everything happens in one goroutine, in events ordered by time and, at equal
// times, by when they were asked for. All chance comes from the one seed given
// to New, so that the same seed and the same calls give the same trace, byte
// for byte. Times are virtual, counted from the start of the world; nothing
// here reads a clock or sleeps.
//
// What is not modelled: collisions on a hub, pause frames, VLAN tags, and the
// frame check sequence (a corrupted frame arrives with a wrong bit in it).
package sim
