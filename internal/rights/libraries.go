//go:build !cgo

package rights

// Libraries are what this program itself is linked with when it is started: none, for
// it is static.
func Libraries() []string { return nil }
