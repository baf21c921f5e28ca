package main

import (
	"errors"
	"strings"
	"testing"

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
		"no capability":      {ingress.ErrNotPermitted, both, "", []string{`path = "netstack"`, "CAP_BPF and CAP_NET_ADMIN"}},
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
