// Package scenario runs real cluster cores and node gates on a simulated LAN,
// with model disks, clocks, workers and clients, and checks what must hold after
// every event.
//
// A run is its seed and its options: the same give the same trace. First
// anything may fail, as the seed or a story says; then the faults end, a core of
// hosts that can agree stays, and everything must converge.
package scenario
