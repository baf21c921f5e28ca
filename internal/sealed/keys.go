package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// Key is the cluster's key, which all nodes share.
type Key [32]byte

// Keyring is the cluster key in use and, during a rotation, another that is
// accepted besides. A rotation goes in three steps, each on every node before
// the next: accept the new key; seal with the new and accept the old; forget the
// old.
type Keyring struct {
	// Current seals, and is accepted.
	Current Key
	// Other is only accepted. Zero is none.
	Other Key
}

const (
	senderKeyInfo = "onevoice control v1"
	keyTagInfo    = "onevoice control key tag v1"
)

// keySet is what follows from a keyring; it does not change.
type keySet struct {
	keys [2]Key
	tags [2]keyTag
	n    int
	own  cipher.AEAD // seals: the current key with our own salt
}

func newKeySet(ring Keyring, own Salt) *keySet {
	k := &keySet{keys: [2]Key{ring.Current, ring.Other}, n: 1}
	if ring.Other != (Key{}) && ring.Other != ring.Current {
		k.n = 2
	}
	for i := range k.n {
		copy(k.tags[i][:], expand(k.keys[i], nil, keyTagInfo, len(keyTag{})))
	}
	k.own = senderAEAD(k.keys[0], own)
	return k
}

// index tells which key has the tag, or -1.
func (k *keySet) index(tag keyTag) int {
	for i := range k.n {
		if k.tags[i] == tag {
			return i
		}
	}
	return -1
}

// senderAEAD is the cipher of one boot of one sender.
func senderAEAD(k Key, salt Salt) cipher.AEAD {
	block, err := aes.NewCipher(expand(k, salt[:], senderKeyInfo, 32))
	if err != nil {
		panic(fmt.Sprintf("sealed: a key of constant length was refused: %v", err))
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(fmt.Sprintf("sealed: a block of constant length was refused: %v", err))
	}
	return aead
}

// expand is HKDF-SHA-256 (RFC 5869 §2).
func expand(k Key, salt []byte, info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, k[:], salt, info, n)
	if err != nil {
		panic(fmt.Sprintf("sealed: lengths are constant, and yet: %v", err))
	}
	return b
}
