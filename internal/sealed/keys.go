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
	tags [2]cipher.Block // make the key tags
	n    int
	own  cipher.AEAD // seals: the current key with our own salt
	tag  keyTag      // of the current key and our own salt
}

func newKeySet(ring Keyring, own Salt) *keySet {
	k := &keySet{keys: [2]Key{ring.Current, ring.Other}, n: 1}
	if ring.Other != (Key{}) && ring.Other != ring.Current {
		k.n = 2
	}
	for i := range k.n {
		k.tags[i] = block(expand(k.keys[i], nil, keyTagInfo, 32))
	}
	k.own = senderAEAD(k.keys[0], own)
	k.tag = k.tagOf(0, own)
	return k
}

// tagOf is the beginning of the salt's encryption: nobody without the key can
// make one for a salt of their own.
func (k *keySet) tagOf(i int, salt Salt) (tag keyTag) {
	k.tags[i].Encrypt(salt[:], salt[:])
	copy(tag[:], salt[:])
	return tag
}

// index tells of which key a boot's tag is, or -1. A sender that is known keeps
// its tags.
func (k *keySet) index(tag keyTag, s *sender, salt Salt) int {
	for i := range k.n {
		if s != nil && s.tag(k, i) == tag || s == nil && k.tagOf(i, salt) == tag {
			return i
		}
	}
	return -1
}

func block(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(fmt.Sprintf("sealed: a key of constant length was refused: %v", err))
	}
	return b
}

// senderAEAD is the cipher of one boot of one sender.
func senderAEAD(k Key, salt Salt) cipher.AEAD {
	aead, err := cipher.NewGCM(block(expand(k, salt[:], senderKeyInfo, 32)))
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
