package doctor

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// well is a node of three on which nothing is wrong.
func well() *Facts {
	return &Facts{
		Interface: "eth0", OwnMAC: "02:00:00:00:00:11", Gateways: []netip.Addr{netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("10.77.0.1")}, Uptime: time.Hour,
		VIPs:  []VIP{{Address: netip.MustParsePrefix("10.77.0.2/24"), MAC: "01:00:5e:4d:00:02", Mode: "multicast"}},
		Peers: []Peer{{"n2", "10.77.0.12", 20 * time.Millisecond, time.Second}, {"n3", "10.77.0.13", 20 * time.Millisecond, -1}},
	}
}

func unicast(f *Facts) { f.VIPs[0].MAC, f.VIPs[0].Mode = "02:bf:0a:4d:00:02", "unicast" }

func deaf(f *Facts) {
	f.Peers[0].Heard, f.Peers[0].Spoke = time.Minute, 100*time.Millisecond
	f.Peers[1].Heard, f.Peers[1].Spoke = -1, 100*time.Millisecond
}

func doubted(by string) func(*Facts) {
	return func(f *Facts) {
		f.Unbelievers = append(f.Unbelievers, Unbeliever{Address: netip.MustParseAddr(by), VIP: f.VIPs[0].Address.Addr(), MAC: "02:00:00:00:09:01", Times: 7, Ago: time.Second})
	}
}

func group(address string, asked time.Duration) func(*Facts) {
	return func(f *Facts) {
		g := Group{Address: netip.MustParseAddr(address), Asked: asked}
		if asked > 0 {
			g.Querier = netip.IPv4Unspecified()
		}
		f.Groups = []Group{g}
	}
}

// Each case spoils facts on which nothing is found, and wants the codes, an
// exclamation mark at those that harm, and words of the first one's mend.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		spoil []func(*Facts)
		want  string
		mend  string
	}{
		"nothing":                    {nil, "", ""},
		"unicast":                    {[]func(*Facts){unicast}, "", ""},
		"a bad file":                 {[]func(*Facts){func(f *Facts) { *f = Facts{File: "x:1: y", NotRunning: "z"} }}, "file!", "onevoice check"},
		"a warning":                  {[]func(*Facts){func(f *Facts) { f.Warnings = []string{"a", "b"} }}, "file-warning file-warning", "onevoice check"},
		"no daemon":                  {[]func(*Facts){func(f *Facts) { f.NotRunning = "connection refused" }}, "not-running!", "start the daemon"},
		"the VIP on lo":              {[]func(*Facts){func(f *Facts) { f.VIPs[0].Holder = "lo" }}, "vip-on-interface!", "ip address del 10.77.0.2/24 dev lo"},
		"SSDP's MAC":                 {[]func(*Facts){func(f *Facts) { f.VIPs[0].MAC = "01:00:5E:7f:ff:fa" }}, "protocol-mac!", "mac ="},
		"the interface's MAC":        {[]func(*Facts){unicast, func(f *Facts) { f.OwnMAC = f.VIPs[0].MAC }}, "own-mac!", "its own MAC"},
		"nobody is heard":            {[]func(*Facts){deaf}, "shared-mac-not-heard!", `mac_mode = "unicast"`},
		"nobody is heard, unicast":   {[]func(*Facts){unicast, deaf}, "shared-mac-not-heard!", "flood unicast frames"},
		"one is not heard":           {[]func(*Facts){func(f *Facts) { f.Peers[0].Heard = 2 * time.Second }}, "shared-mac-not-heard!", "snoops by IP"},
		"one has just stopped":       {[]func(*Facts){func(f *Facts) { f.Peers[0].Heard, f.Peers[0].Spoke = 2*time.Second, 1900*time.Millisecond }}, "", ""},
		"one is dead":                {[]func(*Facts){func(f *Facts) { f.Peers[0].Heard, f.Peers[0].Spoke = time.Minute, time.Minute }}, "", ""},
		"one has never come":         {[]func(*Facts){func(f *Facts) { f.Peers[0].Heard, f.Peers[0].Spoke = -1, -1 }}, "", ""},
		"the gateway refuses":        {[]func(*Facts){doubted("10.77.0.1")}, "answers-refused!", `mac_mode = "unicast"`},
		"the gateway refuses a MAC":  {[]func(*Facts){unicast, doubted("10.77.0.1")}, "answers-refused!", "ARP Inspection"},
		"a station refuses":          {[]func(*Facts){doubted("10.77.0.99")}, "answers-refused", "static ARP entry"},
		"the gateway and a station":  {[]func(*Facts){doubted("10.77.0.99"), doubted("10.77.0.1")}, "answers-refused! answers-refused", ""},
		"sent from the cluster MAC":  {[]func(*Facts){func(f *Facts) { f.FromClusterMAC = 1 }}, "shared-mac-sends", "tables of MACs"},
		"a bridge of this host":      {[]func(*Facts){func(f *Facts) { f.SnoopingBridge = "br0" }}, "bridge-snoops", "ip link set br0 type bridge mcast_snooping 0"},
		"a bridge, unicast":          {[]func(*Facts){unicast, func(f *Facts) { f.SnoopingBridge = "br0" }}, "", ""},
		"a querier":                  {[]func(*Facts){group("239.77.0.2", membershipTime)}, "", ""},
		"a querier that is gone":     {[]func(*Facts){group("239.77.0.2", membershipTime+1)}, "no-querier", "querier"},
		"no querier":                 {[]func(*Facts){group("239.77.0.2", 0)}, "no-querier", "querier"},
		"no querier of IPv6":         {[]func(*Facts){group("ff12::8000:2", 0)}, "no-querier", "querier"},
		"no querier yet":             {[]func(*Facts){group("239.77.0.2", 0), func(f *Facts) { f.Uptime = membershipTime }}, "", ""},
		"what harms comes first":     {[]func(*Facts){func(f *Facts) { f.FromClusterMAC, f.Warnings = 1, []string{"a"} }, doubted("10.77.0.1")}, "answers-refused! shared-mac-sends file-warning", ""},
		"everything that could harm": {[]func(*Facts){deaf, doubted("10.77.0.1"), func(f *Facts) { f.VIPs[0].Holder = "lo" }}, "vip-on-interface! shared-mac-not-heard! answers-refused!", ""},
	} {
		f := well()
		for _, spoil := range c.spoil {
			spoil(f)
		}
		found := Examine(f)
		var codes []string
		for _, x := range found {
			code := x.Code
			if x.Harms {
				code += "!"
			}
			codes = append(codes, code)
			if x.Text == "" || x.Mend == "" || strings.HasSuffix(x.Text, ".") || strings.HasSuffix(x.Mend, ".") || !regexp.MustCompile("^[a-z-]+$").MatchString(x.Code) {
				t.Errorf("%s: %+v", name, x)
			}
		}
		if got := strings.Join(codes, " "); got != c.want {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
			continue
		}
		if len(found) > 0 && !strings.Contains(found[0].Mend, c.mend) {
			t.Errorf("%s: the mend is %q, want something of %q", name, found[0].Mend, c.mend)
		}
		if Harms(found) != strings.Contains(c.want, "!") {
			t.Errorf("%s: harms %v", name, Harms(found))
		}
	}
}
