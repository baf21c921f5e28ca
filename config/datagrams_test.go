package config

import (
	"fmt"
	"strings"
	"testing"
)

// Each case is what a UDP service says besides its listen, and what it comes to, or
// the error.
func TestUDPServices(t *testing.T) {
	for _, c := range []struct{ listen, rest, want string }{
		{"udp://10.77.0.2:53", ``, `udp://10.77.0.2:53 true 30s udp 127.0.0.1:22`},
		{"udp://10.77.0.2:53", `idle_timeout = "1s"`, `udp://10.77.0.2:53 true 1s udp 127.0.0.1:22`},
		{"udp://10.77.0.2:5000-9999", `check = "tcp"`, `udp://10.77.0.2:5000-9999 true 30s tcp 127.0.0.1:22`},
		{"udp://10.77.0.2:53", `check = "exec:/usr/bin/dig @127.0.0.1"`, `udp://10.77.0.2:53 true 30s exec /usr/bin/dig`},
		{"udp://10.77.0.2:53", "source = \"plain\"\nbackend = \"192.0.2.9:53\"", `udp://10.77.0.2:53 true 30s udp 192.0.2.9:53`},
		{"tcp://10.77.0.2:53", ``, `10.77.0.2:53 false 0s tcp 127.0.0.1:22`},

		{"udp://10.77.0.2", ``, `service[0].listen: "udp://10.77.0.2" is not an address with a port`},
		{"udp:10.77.0.2:53", ``, `service[0].listen: "udp:10.77.0.2:53" is not an address with a port`},
		{"udp://10.77.0.2:53", `idle_timeout = "0s"`, `service[0].idle_timeout: "0s" is not a time from "1s" to "1h"`},
		{"udp://10.77.0.2:53", `check = "ssh-banner"`, `service[0].check: "ssh-banner" is for TCP services`},
		{"udp://10.77.0.2:53", `source = "proxy-v2"`, `service[0].source: "proxy-v2" is for connections, and a datagram has no place for it; write "transparent" or "plain"`},
		{"udp://10.77.0.2:53", `backend = "192.0.2.9:53"`, `service[0].backend: 192.0.2.9 is not on loopback`},
		{"udp://10.77.0.2:53", "source = \"plain\"\nbackend = \"unix:/run/dns\"", `service[0].backend: a UDP service cannot be on a unix socket`},
	} {
		text := edited(t, good, `listen = "10.77.0.2:22"`, fmt.Sprintf("listen = %q", c.listen))
		if strings.Contains(c.rest, "backend") {
			text = edited(t, text, `backend = "127.0.0.1:22"`, c.rest)
		} else {
			text += c.rest + "\n"
		}
		cfg, err := Parse("f", []byte(text), "h")
		got := fmt.Sprint(err)
		if err == nil {
			s := &cfg.Services[0]
			got = fmt.Sprint(s.ListenText(), " ", s.UDP, " ", s.Idle, " ", s.Check.Kind, " ", s.Check.Target)
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) {
			t.Errorf("%s %s\nis   %s\nwant %s", c.listen, c.rest, got, c.want)
		}
	}
}

// A port may be TCP's of one service and UDP's of another, as a name server's is.
func TestBothProtocolsMayHaveAPort(t *testing.T) {
	more := func(listen string) string {
		return good + "[[service]]\nname = \"more\"\nbackend = \"127.0.0.1:53\"\nlisten = \"" + listen + "\"\n"
	}
	if _, err := Parse("f", []byte(more("udp://10.77.0.2:22")), "h"); err != nil {
		t.Error(err)
	}
	if _, err := Parse("f", []byte(more("tcp://10.77.0.2:22")), "h"); err == nil || !strings.Contains(err.Error(), "is another service's already") {
		t.Errorf("twice: %v", err)
	}
}
