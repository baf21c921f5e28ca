// Package sealed makes and judges the datagrams that nodes send each other:
// authenticated, bound to one cluster, and never taken twice.
//
// # A datagram
//
// All numbers are big-endian. The header is sent in the clear and is associated
// data of the AEAD; what follows it is encrypted.
//
//	 0  2  magic, "1v"
//	 2  1  version of this layout
//	 3  1  form: whole, fragment, challenge, echo
//	 4  1  kind, the caller's
//	 5  8  sender's id
//	13 16  salt: the sender's boot, random
//	29 16  UUID of the cluster, zero for a blank node
//	45  4  key tag: the salt under the cluster key
//	49  8  counter of this sender and boot, from 1
//	57  …  ciphertext and tag of 16
//
// Magic and version keep their place in every version, so that a refusal can
// name both versions.
//
// # Keys
//
// AES-256-GCM with key HKDF-SHA-256(cluster key, salt, "onevoice control v1")
// and nonce key tag ‖ counter. The salt makes a key of its own for each boot of
// each sender, and the counter never repeats under it, so the wide random nonce
// of XChaCha20-Poly1305 would buy nothing; GCM is in the standard library, runs
// in hardware on every server and needs no allocation. Changing the cluster key
// does not set the counter back. The key tag is the beginning of the salt under
// AES-256 with key HKDF-SHA-256(cluster key, "onevoice control key tag v1").
//
// # Replay
//
// A receiver keeps a window of counters for each (sender, salt) and takes each
// counter once. That alone would let an attacker play an old boot's datagrams
// to a receiver that does not know that boot, having restarted or forgotten it.
// So a boot that the receiver does not know must first prove that it lives:
//
//	S → R  anything                 R: unproved; nothing of it is used
//	R → S  challenge(c)             c = R's salt and R's count of forgettings
//	S → R  echo(c)                  R: knows (S, salt) from this counter on
//
// The echo was sealed after R's boot, for nobody but R knew its salt before;
// only counters above the echo's are taken, so whatever R takes was sealed after
// R's boot and is taken once. R forgets a sender only together with its
// challenge, so that no recorded echo proves anything again; it does so when the
// next boot of the same sender is proved, or when there is no room. Neither R before
// the echo, nor S in answering the challenge, keeps any state that matters: a
// replayed datagram of an unknown boot costs one verdict and one small answer out
// of that boot's budget.
//
// The key tag can be made by members only: who invents a boot is refused by it,
// for one block of AES and out of nobody's budget. So a flood of inventions does
// not keep a node that has just started from proving that it lives.
//
// What the layer does not give: a datagram that was held back, and not yet
// taken, is taken late if its counter is still in the window. What must be
// fresh carries its own time (heartbeats do).
package sealed
