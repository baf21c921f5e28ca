package flowstate

import "testing"

func TestStatesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for s := range count {
		name := s.String()
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("state %d is called %q", s, name)
		}
		seen[name] = true
	}
	if count.String() != "unknown" {
		t.Error("a number beyond the states has a name")
	}
}
