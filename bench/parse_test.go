package bench

import (
	"math"
	"os"
	"strings"
	"testing"
)

func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the tools wrote, and what is in it.
func TestToolsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		parse func(string) (float64, error)
		want  float64
		fault string
	}{
		"iperf3.json":         {parseIperf, 22194075917.77973, ""},
		"iperf3-refused.json": {parseIperf, 0, "unable to connect to server"},
		"wrk.txt":             {parseWrk, 60626.31, ""},
		"wrk-errors.txt":      {parseWrk, 0, "read 7, write 0, timeout 2"},
	} {
		got, err := c.parse(sample(t, name))
		if math.Abs(got-c.want) > 1e-6*c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: error %v, want %q", name, err, c.fault)
		}
	}
}

// What a tool of another version, or one that was killed, may write.
func TestUnreadableIsAnError(t *testing.T) {
	for _, text := range []string{"", "{}", "{", "null", `{"end":{"sum_received":{"bits_per_second":0}}}`, "Requests/sec: \n", "Requests/sec:      0.00\n"} {
		if got, err := parseIperf(text); err == nil {
			t.Errorf("iperf3 %q: %v", text, got)
		}
		if got, err := parseWrk(text); err == nil {
			t.Errorf("wrk %q: %v", text, got)
		}
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n": "2.6.12-1+deb12u4",
		"nginx version: nginx/1.22.1\n":                                        "1.22.1",
		"iperf 3.12 (cJSON 1.7.15)\n":                                          "3.12",
		"wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n":       "4.1.0-3+b2",
		"iptables v1.8.9 (nf_tables)\n":                                        "1.8.9",
		"DNS Performance Testing Tool\nVersion 2.10.0\n\nUsage":                "2.10.0",
		"no number": "",
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
