// Package link moves whole Ethernet frames between the daemon and a network
// interface.
//
// A Device receives and sends frames in batches and never blocks: whoever owns
// the event loop waits on the device's descriptor. Packet is the AF_PACKET
// device, Tap wraps any device and writes what passes to a pcap file.
//
// Frames carry what the kernel knows about them beside their bytes: a VLAN tag
// that was taken out of the frame, and the virtio-net header, which says
// whether the transport checksum is still partial and whether the frame is a
// super-frame that stands for several segments.
package link
