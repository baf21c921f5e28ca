package control

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/health"
)

func checked(kind config.CheckKind, target string, args ...string) config.Check {
	return config.Check{
		Kind: kind, Target: target, Args: args, Interval: config.MinBannerInterval, Timeout: time.Second,
		Rise: 1, Fall: 1, HoldDown: time.Second,
	}
}

// Every check that a file can have is one that health can make.
func TestChecksOfTheFileAreChecksOfHealth(t *testing.T) {
	for _, c := range []config.Check{
		checked(config.CheckTCP, "127.0.0.1:22"),
		checked(config.CheckSSHBanner, "127.0.0.1:22"),
		checked(config.CheckHTTP, "http://127.0.0.1:80/x"),
		checked(config.CheckExec, "/bin/true", "a", "b"),
	} {
		got := checkOf(&config.Service{Check: c})
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", c.Kind, err)
		}
		if got.Kind.String() != string(c.Kind) || got.Target != c.Target || !slices.Equal(got.Args, c.Args) || got.Interval != c.Interval ||
			got.Timeout != c.Timeout || got.Rise != 1 || got.Fall != 1 || got.HoldDown != c.HoldDown {
			t.Errorf("%+v became %+v", c, got)
		}
	}
}

// watch starts a Health and returns what the core is told.
func watch(t *testing.T, cfg *config.Config) <-chan cluster.Event {
	t.Helper()
	told := make(chan cluster.Event, 100)
	h, err := StartHealth(HealthConfig{
		Config: cfg, Tell: func(e cluster.Event) { told <- e }, Answers: func(bool) {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if want := len(cfg.Services) + 1; len(h.Report()) != want {
		t.Errorf("report %+v", h.Report())
	}
	return told
}

func TestCoreIsToldOfServicesAndLoad(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "weight")
	if err := os.WriteFile(file, []byte("30\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	told := watch(t, &config.Config{
		Node: config.Node{Agent: config.Agent{File: file}, AgentInterval: time.Second},
		Services: []config.Service{
			{Name: "up", Check: checked(config.CheckTCP, l.Addr().String())},
			{Name: "down", Check: checked(config.CheckTCP, closed.Addr().String())},
		},
	})
	want := map[cluster.Event]bool{cluster.Checked{Service: "up", Up: true}: true, cluster.Checked{Service: "down"}: true, cluster.Loaded{Percent: 30}: true}
	for len(want) > 0 {
		e := <-told
		if !want[e] {
			t.Fatalf("told %+v", e)
		}
		delete(want, e)
	}
}

// The gateway takes the node out only when the file says so, and gives back what
// agents leave.
func TestGatewayTakesTheNodeOut(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		var told []cluster.Event
		var answers []bool
		h := &Health{load: load{percent: health.FullWeight}, cfg: HealthConfig{
			Config: &config.Config{Node: config.Node{GatewayCheck: wanted}}, Log: slog.New(slog.DiscardHandler),
			Tell: func(e cluster.Event) { told = append(told, e) }, Answers: func(up bool) { answers = append(answers, up) },
		}}
		h.gateway(health.Change{Up: true})
		h.gateway(health.Change{})
		h.weight(health.Weight{Percent: 40})
		h.gateway(health.Change{Up: true})
		want := []cluster.Event{cluster.Loaded{Percent: 40}}
		if wanted {
			want = []cluster.Event{cluster.Loaded{Percent: 0}, cluster.Loaded{Percent: 0}, cluster.Loaded{Percent: 40}}
		}
		if !slices.Equal(told, want) || !slices.Equal(answers, []bool{true, false, true}) {
			t.Errorf("gateway_check %v: told %v, answers %v", wanted, told, answers)
		}
	}
}

func TestGatewayCheckNeedsAGateway(t *testing.T) {
	_, err := StartHealth(HealthConfig{Config: &config.Config{Node: config.Node{GatewayCheck: true}, Cluster: config.Cluster{Interface: "eth7"}}})
	if err == nil || !strings.Contains(err.Error(), "eth7 has no default gateway") {
		t.Error(err)
	}
	h, err := StartHealth(HealthConfig{
		Config: &config.Config{Node: config.Node{GatewayCheck: true}}, Gateway: netip.MustParseAddr("127.0.0.1"),
		Tell: func(cluster.Event) {}, Answers: func(bool) {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if len(h.Report()) != 1 {
		t.Errorf("watched %+v", h.Report())
	}
	// A witness is told of the gateway where there is one, and does without.
	for gateway, want := range map[netip.Addr]int{{}: 0, netip.MustParseAddr("127.0.0.1"): 1} {
		h, err := StartHealth(HealthConfig{
			Config:  &config.Config{Cluster: config.Cluster{Witness: netip.MustParseAddrPort("192.0.2.9:1")}},
			Gateway: gateway, Answers: func(bool) {}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		if got := len(h.Report()); got != want {
			t.Errorf("%d things are watched, want %d", got, want)
		}
	}
}

func TestDownEverywhereIsSaidOnce(t *testing.T) {
	host := func(in, witness bool, down ...string) cluster.HostStatus {
		h := cluster.Host{In: in, Witness: witness, Health: []cluster.Health{{Service: "other", Up: true}}}
		for _, name := range down {
			h.Health = append(h.Health, cluster.Health{Service: name})
		}
		return cluster.HostStatus{Host: h}
	}
	var o Outage
	for i, c := range []struct {
		hosts      []cluster.HostStatus
		warn, info string
	}{
		{nil, "", ""},
		{[]cluster.HostStatus{host(true, false, "ssh"), host(true, false)}, "", ""},
		{[]cluster.HostStatus{host(true, false, "ssh"), host(true, false, "ssh"), host(false, false), host(true, true)}, "down on all nodes: ssh;", ""},
		{[]cluster.HostStatus{host(true, false, "ssh"), host(true, false, "ssh")}, "", ""},
		{[]cluster.HostStatus{host(true, false, "ssh", "web"), host(true, false, "web")}, "down on all nodes: web;", "up again on one node at least: ssh"},
		{[]cluster.HostStatus{host(true, false), host(true, false, "web")}, "", "up again on one node at least: web"},
	} {
		warn, info := o.Look(&cluster.Status{Hosts: c.hosts})
		if !strings.HasPrefix(warn, c.warn) || (warn == "") != (c.warn == "") || info != c.info {
			t.Errorf("step %d: %q, %q", i, warn, info)
		}
	}
}
