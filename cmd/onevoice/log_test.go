package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// The environment says how lines are written, and one that nobody understands is
// said.
func TestLogForms(t *testing.T) {
	for form, want := range map[string]string{"": "level=INFO msg=started node=n1", "text": "level=INFO msg=started node=n1", "json": `"msg":"started","node":"n1"`, "xml": "write text or json"} {
		t.Setenv(logVariable, form)
		var b bytes.Buffer
		newLog(&b).Info("started", "node", "n1")
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q: %s", form, &b)
		}
		if form == "json" && !json.Valid(b.Bytes()) {
			t.Errorf("no JSON: %s", &b)
		}
	}
}
