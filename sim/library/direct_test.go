package library

import (
	"strings"
	"testing"
)

// With the direct path onevoice dies on a host and is back, and SSH users notice nothing;
// with netstack those of the host are reset.
func TestDirectPathOutlivesACrash(t *testing.T) {
	const text = "users ssh\nduration 20s\nkill n2@8s+1s\n"
	for path, cut := range map[string]bool{"direct": false, "netstack": true} {
		s, err := Parse("x", text+"path "+path)
		if err != nil {
			t.Fatal(err)
		}
		r := simulate(t, s)
		if n := r.Sessions; len(r.Findings) > 0 || n.Open == 0 || n.Reset > 0 != cut {
			t.Errorf("path %s: %+v, found %v", path, n, r.Findings)
		}
	}
	s, err := Parse("x", "path direct\ntcp netstack")
	if err == nil {
		err = s.Check()
	}
	if err == nil || !strings.Contains(err.Error(), "there is no netstack") {
		t.Errorf("path direct with netstack: %v", err)
	}
}
