package stack

import "time"

// Bounds and times of a stack. Each has its reason beside it.
const (
	// MaxFlows bounds the accepted connections of one stack. An idle one takes
	// about 6 KiB here and a socket on the local side. One source has at most a share
	// of what is left, see generous.
	MaxFlows = 50_000
	// ListenBacklog bounds, for each service, the half-open connections and
	// those that wait to be accepted. Beyond it netstack answers with SYN
	// cookies, which hold no memory but lose window scaling and SACK.
	ListenBacklog = 4096
	// MaxEgressPackets bounds what netstack may have emitted and the loop has
	// not yet sent; more is dropped as a full transmit queue would drop it, but for
	// SYN-ACKs.
	MaxEgressPackets = 16_384
	// keptPackets is for how many of them room is kept: a burst of many, as after the host
	// has stood still in a flood of SYNs, comes once in an hour or never.
	keptPackets = 1024
	// acceptsPerTurn bounds the connections accepted from one service in one
	// turn of the loop, so that a rush does not starve running flows.
	acceptsPerTurn = 256
	// connectTimeout bounds how long a backend may take to accept. It listens
	// on this host, so more means that its backlog is full or it is stopped.
	connectTimeout = 10 * time.Second
	// probeTimeout bounds a dial without a client.
	probeTimeout = time.Second
)

// TCP settings that differ from netstack's defaults.
const (
	// timeWait is shorter than netstack's 60 s: each TIME-WAIT endpoint holds
	// memory, and clients that come back at 5,000 connections a second would
	// hold 2 GB of it. Old duplicates on a LAN live for milliseconds, and the
	// reuse of a tuple is guarded by sequence numbers and time stamps as well
	// (RFC 6191).
	timeWait = 5 * time.Second
	// A client that vanished is noticed within two minutes.
	keepaliveIdle     = 60 * time.Second
	keepaliveInterval = 15 * time.Second
	keepaliveCount    = 4
	// Buffers start at what a LAN of 10 Gb/s and 0.5 ms needs. What is sent may grow,
	// and 1, 2 and 8 MiB at most are all slower over 40 ms than these 4. What is
	// received grows with what the backend takes. See docs/performance.md.
	minBufferBytes     = 4 << 10
	defaultBufferBytes = 1 << 20
	maxBufferBytes     = 4 << 20
)
