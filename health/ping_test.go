package health

import (
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// A raw socket hears every echo of the host: only the answer to our own counts.
func TestAnswers(t *testing.T) {
	request := &icmp.Echo{ID: 7, Seq: 9, Data: []byte("01234567")}
	for name, c := range map[string]struct {
		kind ipv4.ICMPType
		body icmp.Echo
		want bool
	}{
		"the reply":              {ipv4.ICMPTypeEchoReply, *request, true},
		"another identifier":     {ipv4.ICMPTypeEchoReply, icmp.Echo{ID: 8, Seq: 9, Data: request.Data}, true}, // a ping socket's
		"the request":            {ipv4.ICMPTypeEcho, *request, false},
		"another sequence":       {ipv4.ICMPTypeEchoReply, icmp.Echo{ID: 7, Seq: 8, Data: request.Data}, false},
		"another's payload":      {ipv4.ICMPTypeEchoReply, icmp.Echo{ID: 7, Seq: 9, Data: []byte("01234568")}, false},
		"a part of the payload":  {ipv4.ICMPTypeEchoReply, icmp.Echo{ID: 7, Seq: 9, Data: []byte("0123456")}, false},
		"no payload":             {ipv4.ICMPTypeEchoReply, icmp.Echo{ID: 7, Seq: 9}, false},
		"another kind of answer": {ipv4.ICMPTypeTimestampReply, *request, false},
	} {
		m, err := (&icmp.Message{Type: c.kind, Body: &c.body}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := answers(m, request); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		for n := range m {
			if answers(m[:n], request) {
				t.Errorf("%s, cut to %d bytes, is taken", name, n)
			}
		}
	}
}
