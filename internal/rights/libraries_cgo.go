//go:build cgo

package rights

// Libraries are what this program itself is linked with when it is started.
func Libraries() []string {
	return []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}
}
