package health

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/net/icmp"
)

// FuzzBanner: whatever a server says, and in whatever pieces, it counts as SSH just
// when one of its first lines is an identification that has come whole.
func FuzzBanner(f *testing.F) {
	for _, s := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "hello\nSSH-1.99-x\n", "SSH-2.0-x", "\nSSH-", "220 mail\r\n", strings.Repeat("x", maxBannerBytes) + "\nSSH-2.0\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		err := readBanner(bytes.NewReader(said))
		slow := readBanner(iotest.OneByteReader(bytes.NewReader(said)))
		if (err == nil) != (slow == nil) && len(said) < maxBannerBytes {
			t.Errorf("%q: %v in one piece, %v byte by byte", said, err, slow)
		}
		is := false
		for line := range strings.Lines(string(said)) {
			is = is || strings.HasPrefix(line, "SSH-") && strings.HasSuffix(line, "\n")
		}
		if err == nil && !is || err != nil && is && len(said) < maxBannerBytes {
			t.Errorf("%q: %v", said, err)
		}
		if err != nil && (len(err.Error()) > 2*maxReasonBytes+100 || strings.ContainsAny(err.Error(), "\n\r\x1b\x00")) {
			t.Errorf("%q is told as %q", said, err)
		}
	})
}

// FuzzEchoReply: only the answer to our own question is one.
func FuzzEchoReply(f *testing.F) {
	request := &icmp.Echo{ID: 7, Seq: 9, Data: []byte("01234567")}
	f.Add([]byte{0, 0, 0, 0, 0, 7, 0, 9, '0', '1', '2', '3', '4', '5', '6', '7'})
	f.Add([]byte{8, 0, 0, 0, 0, 7, 0, 9, '0', '1', '2', '3', '4', '5', '6', '7'})
	f.Fuzz(func(t *testing.T, message []byte) {
		if answers(message, request) && (len(message) != 16 || message[0] != 0 || message[7] != 9 || string(message[8:]) != "01234567") {
			t.Errorf("% x is taken", message)
		}
	})
}
