// Package pcap writes and reads captures of Ethernet frames: the pcap format of
// draft-ietf-opsawg-pcap, and, for reading, pcapng of draft-ietf-opsawg-pcapng as
// well. It knows nothing of what is in the frames.
package pcap
