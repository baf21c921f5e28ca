package sim

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806

	arpBytes   = 28
	arpRequest = 1
	arpReply   = 2

	ipBytes   = 20
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17

	tcpBytes = 20
)
