package main

import (
	"strings"
	"testing"

	"onevoice/stack"
)

// How long a flow of the direct path has been there the kernel does not tell, and the
// list does not say that it began just now.
func TestFlowOfUnknownAge(t *testing.T) {
	var out strings.Builder
	if err := listFlows(&out, []stack.FlowStatus{{Client: "10.77.0.101:40000", Service: "ssh", State: "open", Seconds: -1}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(strings.Split(out.String(), "\n")[1]); len(got) < 4 || got[3] != "-" {
		t.Errorf("%q", got)
	}
}
