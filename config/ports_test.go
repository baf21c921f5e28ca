package config

import (
	"fmt"
	"strings"
	"testing"
)

// Each case is listen and backend, and what they come to.
func TestPortRanges(t *testing.T) {
	with := func(listen, backend string) string {
		return strings.NewReplacer(`listen = "10.77.0.2:22"`, fmt.Sprintf("listen = %q", listen), `backend = "127.0.0.1:22"`, fmt.Sprintf("backend = %q", backend)).Replace(good)
	}
	for _, c := range []struct{ listen, backend, want string }{
		{"10.77.0.2:22", "127.0.0.1:22", "10.77.0.2:22 127.0.0.1:22 1 127.0.0.1:22 127.0.0.1:22"},
		{"10.77.0.2:8000-8099", "127.0.0.1:80", "10.77.0.2:8000-8099 127.0.0.1:80 100 127.0.0.1:80 127.0.0.1:80"},
		{"10.77.0.2:8000-8099", "127.0.0.1:9000-9099", "10.77.0.2:8000-8099 127.0.0.1:9000-9099 100 127.0.0.1:9000 127.0.0.1:9099"},
		{"10.77.0.2:64512-65535", "127.0.0.1:64512-65535", "10.77.0.2:64512-65535 127.0.0.1:64512-65535 1024 127.0.0.1:64512 127.0.0.1:65535"},
	} {
		cfg, err := Parse("f", []byte(with(c.listen, c.backend)), "h")
		if err != nil {
			t.Errorf("%s to %s: %v", c.listen, c.backend, err)
			continue
		}
		s := &cfg.Services[0]
		last := max(s.LastPort, s.Listen.Port())
		if got := fmt.Sprint(s.ListenText(), " ", s.BackendText(), " ", s.Ports(), " ", s.BackendAt(s.Listen.Port()), " ", s.BackendAt(last)); got != c.want {
			t.Errorf("%s to %s is %s, want %s", c.listen, c.backend, got, c.want)
		}
	}
	for _, c := range []struct{ listen, backend, says string }{
		{"10.77.0.2:8099-8000", "127.0.0.1:80", `service[0].listen: "10.77.0.2:8099-8000" has a range of ports that does not end behind where it begins; write one like "10.77.0.2:8000-8099"`},
		{"10.77.0.2:8000-8000", "127.0.0.1:80", `that does not end behind where it begins`},
		{"10.77.0.2:8000-", "127.0.0.1:80", `that does not end behind where it begins`},
		{"10.77.0.2:0-9", "127.0.0.1:80", `that does not end behind where it begins`},
		{"10.77.0.2:-8000", "127.0.0.1:80", `is not an address with a port`},
		{"10.77.0.2:1-65536", "127.0.0.1:80", `is not an address with a port`},
		{"10.77.0.2:1-2-3", "127.0.0.1:80", `is not an address with a port`},
		{"10.77.0.2:1-+2", "127.0.0.1:80", `is not an address with a port`},
		{"10.77.0.2:8000-8099", "127.0.0.1:9000-9098", `service[0].backend: "127.0.0.1:9000-9098" is a range of 99 ports, and listen one of 100; write as many, or one port for all`},
		{"10.77.0.2:22", "127.0.0.1:22-23", `is a range of 2 ports, and listen one of 1`},
		{"10.77.0.2:22", "127.0.0.1:23-22", `service[0].backend: "127.0.0.1:23-22" has a range of ports that does not end behind where it begins`},
		{"10.77.0.2:1000-2024", "127.0.0.1:80", `service[0].listen: with 10.77.0.2:1000-2024 the services have 1025 ports together, of 1024 that are possible; write fewer`},
	} {
		if _, err := Parse("f", []byte(with(c.listen, c.backend)), "h"); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s to %s says %v\nwant %s", c.listen, c.backend, err, c.says)
		}
	}
}

// Two services share no port of a VIP, whichever is the range.
func TestRangesDoNotOverlap(t *testing.T) {
	second := "[[service]]\nname = \"b\"\nbackend = \"127.0.0.1:1\"\nlisten = "
	for listen, free := range map[string]bool{
		"10.77.0.2:21-23": false, "10.77.0.2:22-30": false, "10.77.0.2:10-22": false, "10.77.0.2:22": false,
		"10.77.0.2:23-30": true, "10.77.0.2:10-21": true,
	} {
		_, err := Parse("f", []byte(good+"\n"+second+fmt.Sprintf("%q\n", listen)), "h")
		if told := err != nil && strings.Contains(err.Error(), listen+" is another service's already"); told == free {
			t.Errorf("%s: %v", listen, err)
		}
	}
}
