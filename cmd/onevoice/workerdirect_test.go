package main

import (
	"errors"
	"strings"
	"testing"

	"onevoice/control"
	"onevoice/internal/rights"
	"onevoice/link/ingress"
)

// Whoever cannot have the direct path is told why in one line, and what to do; what is
// wrong with something else is not taken for that.
func TestDirectRefused(t *testing.T) {
	both := []rights.Capability{rights.BPF, rights.NetAdmin}
	for name, c := range map[string]struct {
		err      error
		lacks    []rights.Capability
		lockdown string
		says     []string
	}{
		"too old":            {ingress.ErrUnsupported, nil, "", []string{`path = "netstack"`, "too old"}},
		"no capability":      {ingress.ErrNotPermitted, both[:1], "", []string{`path = "netstack"`, "give this process CAP_BPF:"}},
		"locked down":        {ingress.ErrNotPermitted, nil, "none integrity [confidentiality]\n", []string{`path = "netstack"`, "locked down"}},
		"locked down a bit":  {ingress.ErrNotPermitted, nil, "none [integrity] confidentiality\n", []string{"locked down"}},
		"refused":            {ingress.ErrNotPermitted, nil, "[none] integrity confidentiality\n", []string{`path = "netstack"`, "security module"}},
		"no lockdown at all": {ingress.ErrNotPermitted, nil, "", []string{"security module"}},
	} {
		err := directRefused(c.err, c.lacks, c.lockdown)
		for _, says := range c.says {
			if !strings.Contains(err.Error(), says) || !errors.Is(err, c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v; want %q in it", name, err, says)
			}
		}
	}
	other := errors.New("no such interface")
	if err := directRefused(other, both, ""); err != other {
		t.Errorf("%v", err)
	}
}

// Programs that end with the process are enough for TCP, and not for UDP.
func TestProgramsThatEndWithTheProcess(t *testing.T) {
	tcp, udp := control.DirectService{Name: "ssh"}, control.DirectService{Name: "dns", UDP: true}
	for _, c := range []struct {
		outlive  bool
		services []control.DirectService
		refused  bool
	}{
		{true, []control.DirectService{tcp, udp}, false},
		{false, []control.DirectService{tcp}, false},
		{false, []control.DirectService{tcp, udp}, true},
	} {
		err := mayEnd(c.outlive, c.services)
		if (err != nil) != c.refused || err != nil && !(strings.Contains(err.Error(), `"dns"`) && strings.Contains(err.Error(), "mount -t bpf")) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
