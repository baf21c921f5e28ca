package doctor

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"onevoice/control"
)

// well is a node of three on which nothing is wrong.
func well() *Facts {
	return &Facts{
		Interface: "eth0", Netstack: []string{"ssh"}, OwnMAC: "02:00:00:00:00:11", Gateways: []netip.Addr{netip.MustParseAddr("10.78.0.1"), netip.MustParseAddr("10.77.0.1")}, Uptime: time.Hour,
		VIPs: []VIP{{Address: netip.MustParsePrefix("10.77.0.2/24"), MAC: "01:00:5e:4d:00:02", Mode: "multicast"}},
		Peers: []Peer{
			{Name: "n2", Address: "10.77.0.12", ID: 2, Heard: 20 * time.Millisecond, Spoke: time.Second, Card: card(2), Probes: probes(8, 8)},
			{Name: "n3", Address: "10.77.0.13", ID: 3, Heard: 20 * time.Millisecond, Spoke: -1, Card: card(3), Probes: probes(8, 8)},
		},
		ID: 1, Own: &card(1).Card, Asked: true, Workers: []Worker{{Uplink: "eth0", Files: fewFiles}},
		Host: &Host{
			Synchronised: true, Disk: Disk{Path: "/var/lib/onevoice", Free: diskLow, P99: diskSlow, Times: 100},
			Interfaces: []Interface{{Name: "eth0", Exists: true, Up: true, Carrier: true, Addressed: true}},
		},
	}
}

// card is what a node of well tells.
func card(id uint64) *control.HeardCard {
	var hears []uint64
	for other := range uint64(3) {
		if other+1 != id {
			hears = append(hears, other+1)
		}
	}
	return &control.HeardCard{Card: control.Card{
		Version: "v1", Hears: hears, Wall: 1, MTU: map[string]int{"eth0": 1500}, Sysctls: map[string]string{"net.core.somaxconn": "4096"},
		File: map[string]string{"[cluster]": "a", "[[vip]]": "b"}, HostKeys: map[string][]string{"ssh": {"ssh-ed25519 SHA256:a", "ssh-rsa SHA256:b"}},
	}}
}

func probes(short, long int) []control.Probe {
	return []control.Probe{{Path: "eth0 01:00:5e:4d:00:02", Short: 8, ShortHeard: short, Long: 8, LongHeard: long, Bytes: 1500}}
}

// told changes the card of a node of well, by its place.
func told(i int, change func(*control.HeardCard)) func(*Facts) {
	return func(f *Facts) { change(f.Peers[i].Card) }
}

func host(change func(*Host)) func(*Facts)     { return func(f *Facts) { change(f.Host) } }
func worker(change func(*Worker)) func(*Facts) { return func(f *Facts) { change(&f.Workers[0]) } }
func netif(change func(*Interface)) func(*Facts) {
	return func(f *Facts) { change(&f.Host.Interfaces[0]) }
}

func direct(f *Facts) { f.Direct, f.Netstack = []string{"ssh"}, nil }

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
	seen := map[string]bool{}
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
		"a stopped daemon":           {[]func(*Facts){func(f *Facts) { f.NotRunning = "process 7 is stopped; kill -CONT 7" }}, "not-running!", "kill -CONT 7"},
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
		"no querier yet":             {[]func(*Facts){group("239.77.0.2", 0), func(f *Facts) { f.Uptime = membershipTime }}, "no-querier?", "again then"},
		"no right":                   {[]func(*Facts){func(f *Facts) { f.Forbidden = []string{"a", "b"} }}, "rights?", "as root"},
		"status warns":               {[]func(*Facts){func(f *Facts) { f.Told = []string{"ssh is down; start its backend", "n2 is not heard any more"} }}, "status! status!", "start its backend"},
		"no filter":                  {[]func(*Facts){worker(func(w *Worker) { w.Filter = "no right" })}, "filter", "CAP_BPF"},
		"no guard":                   {[]func(*Facts){worker(func(w *Worker) { w.Guard = "no right" })}, "guard", "CAP_BPF"},
		"few files":                  {[]func(*Facts){worker(func(w *Worker) { w.Files = fewFiles - 1 })}, "few-files", "LimitNOFILE"},
		"another MTU since":          {[]func(*Facts){worker(func(w *Worker) { w.Changed = "its MTU is 1400, and was 1500" })}, "interface-changed", "restart"},
		"sshd on all addresses":      {[]func(*Facts){worker(func(w *Worker) { w.NotReached = []netip.AddrPort{netip.MustParseAddrPort("10.77.0.2:22")} })}, "own-host", "listen on 127.0.0.1"},
		"a stranger":                 {[]func(*Facts){worker(func(w *Worker) { w.Stranger = &control.StrangerStatus{MAC: "02:00:00:00:00:99"} })}, "stranger", "switches' tables"},
		"no interface":               {[]func(*Facts){netif(func(i *Interface) { i.Exists = false })}, "interface!", "[cluster] interface"},
		"switched off":               {[]func(*Facts){netif(func(i *Interface) { i.Up = false })}, "interface!", "ip link set eth0 up"},
		"no cable":                   {[]func(*Facts){netif(func(i *Interface) { i.Carrier = false })}, "interface!", "cable"},
		"no address":                 {[]func(*Facts){netif(func(i *Interface) { i.Addressed = false })}, "interface!", "peers"},
		"half duplex":                {[]func(*Facts){netif(func(i *Interface) { i.HalfDuplex = true })}, "interface", "autoneg"},
		"LRO":                        {[]func(*Facts){netif(func(i *Interface) { i.LRO = true })}, "lro", "lro off"},
		"no GRO, no TSO":             {[]func(*Facts){netif(func(i *Interface) { i.Off = []string{"gro", "tso"} })}, "offload-off", "ethtool -K eth0 gro on tso on"},
		"a full disk":                {[]func(*Facts){host(func(h *Host) { h.Disk.Full = true })}, "disk-full!", "make room"},
		"a disk nearly full":         {[]func(*Facts){host(func(h *Host) { h.Disk.Free-- })}, "disk-nearly-full", "make room"},
		"a slow disk":                {[]func(*Facts){host(func(h *Host) { h.Disk.P99++ })}, "slow-disk", "faster disk"},
		"a read-only disk":           {[]func(*Facts){host(func(h *Host) { h.Disk.Refused = "read-only" })}, "state-directory!", "state_dir"},
		"forwarding, behind TCX":     {[]func(*Facts){host(func(h *Host) { h.Forwards = true })}, "", ""},
		"forwarding":                 {[]func(*Facts){host(func(h *Host) { h.Forwards, h.Redirects = true, true }), worker(func(w *Worker) { w.HostSees = true })}, "forwards", "ip_forward = 0"},
		"rules are gone":             {[]func(*Facts){host(func(h *Host) { h.RulesGone = true })}, "rules-gone!", "ManageForeignRoutingPolicyRules"},
		"a VPN's rule":               {[]func(*Facts){host(func(h *Host) { h.RulesBefore = []string{"100 lookup 51820"} })}, "rule-before-ours", "above 7078"},
		"another way, loosely":       {[]func(*Facts){host(func(h *Host) { h.Elsewhere = []string{"10.77.0.12 by eth1"} })}, "", ""},
		"another way, strictly":      {[]func(*Facts){host(func(h *Host) { h.Elsewhere, h.StrictSource = []string{"10.77.0.12 by eth1"}, true })}, "rp-filter", "rp_filter = 2"},
		"fail2ban and a firewall":    {[]func(*Facts){host(func(h *Host) { h.Fail2ban, h.Firewall = "fail2ban", "inet filter" })}, "bans firewall", "deny"},
		"a firewall, direct":         {[]func(*Facts){direct, host(func(h *Host) { h.Fail2ban, h.Firewall = "fail2ban", "inet filter" })}, "bans firewall", "share their bans"},
		"a firewall, both paths":     {[]func(*Facts){direct, func(f *Facts) { f.Netstack = []string{"web"} }, host(func(h *Host) { h.Firewall = "inet filter" })}, "firewall", "deny"},
		"a firewall that drops":      {[]func(*Facts){direct, worker(func(w *Worker) { w.KeptOut = true })}, "kept-out!", "let the services' ports in"},
		"an unsynchronised clock":    {[]func(*Facts){host(func(h *Host) { h.Synchronised = false })}, "clock-unsynchronised", "chrony"},
		"a clock apart":              {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Ahead = -1.5 })}, "clock-apart", "NTP"},
		"a clock that tells nothing": {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Ahead, c.Card.Wall = -1e9, 0 })}, "", ""},
		"a fast clock":               {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Faster, c.Over = clockRate+1, 600 })}, "clock-rate!", "clocksource"},
		"other host keys":            {[]func(*Facts){told(1, func(c *control.HeardCard) { c.Card.HostKeys["ssh"] = []string{"ssh-ed25519 SHA256:c"} })}, "host-keys-unequal!", "ssh_host"},
		"all host keys are other": {[]func(*Facts){told(1, func(c *control.HeardCard) {
			c.Card.HostKeys["ssh"] = []string{"ssh-ed25519 SHA256:c", "ssh-rsa SHA256:d"}
		})}, "host-keys-unequal!", "ssh_host"},
		"our sshd is down":           {[]func(*Facts){func(f *Facts) { f.Own.HostKeys["ssh"] = nil }}, "", ""},
		"a host key less":            {[]func(*Facts){told(1, func(c *control.HeardCard) { c.Card.HostKeys["ssh"] = []string{"ssh-rsa SHA256:b"} })}, "host-keys-unequal!", "ssh_host"},
		"an sshd that is down":       {[]func(*Facts){told(1, func(c *control.HeardCard) { c.Card.HostKeys["ssh"] = nil })}, "", ""},
		"another file":               {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.File["[[vip]]"] = "c" })}, "files-unequal!", "make the files equal"},
		"another version":            {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.Version, c.Card.File["[[vip]]"] = "v2", "c" })}, "versions-unequal", "upgrade"},
		"an old version":             {[]func(*Facts){func(f *Facts) { f.Peers[0].Card, f.Peers[0].Silent = nil, true }}, "tells-nothing?", "upgrade"},
		"a dead one tells nothing":   {[]func(*Facts){func(f *Facts) { f.Peers[0].Spoke, f.Peers[0].Silent = time.Minute, true }}, "", ""},
		"another sysctl":             {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.Sysctls["net.core.somaxconn"] = "128" })}, "sysctls-unequal", "sysctl.d"},
		"another MTU":                {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.MTU["eth0"] = 1400 })}, "mtu-unequal!", "ip link set eth0 mtu"},
		"long frames are lost":       {[]func(*Facts){func(f *Facts) { f.Peers[0].Probes = probes(8, 0) }}, "mtu-path!", "jumbo"},
		"all frames are lost":        {[]func(*Facts){func(f *Facts) { f.Peers[0].Probes = probes(0, 0) }}, "", ""},
		"some frames are lost":       {[]func(*Facts){func(f *Facts) { f.Peers[0].Probes = probes(7, 8) }}, "frames-lost", "storm control"},
		"not heard there":            {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.Hears = []uint64{3} })}, "shared-mac-not-heard-there!", "port security"},
		"started a moment ago":       {[]func(*Facts){told(0, func(c *control.HeardCard) { c.Card.Hears = []uint64{3} }), func(f *Facts) { f.Uptime = heardAfter }}, "", ""},
		"what is unseen comes last":  {[]func(*Facts){func(f *Facts) { f.Forbidden, f.FromClusterMAC = []string{"a"}, 1 }}, "shared-mac-sends rights?", ""},
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
			if x.Unseen {
				code += "?"
			}
			seen[x.Code] = true
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
		fine, unmade := Fine(f, found)
		if n := len(Examinations()); len(fine)+len(unmade) > n || len(found) == 0 && len(fine) != n {
			t.Errorf("%s: of %d examinations %d are fine and %d were not made", name, n, len(fine), len(unmade))
		}
		if Harms(found) != strings.Contains(c.want, "!") {
			t.Errorf("%s: harms %v", name, Harms(found))
		}
	}
	for _, e := range Examinations() {
		if e.Name == "" || e.Reads == "" || len(e.Codes) == 0 {
			t.Errorf("%+v says nothing of itself", e)
		}
		for _, code := range e.Codes {
			if !seen[code] {
				t.Errorf("no case here finds %s of the examination %q", code, e.Name)
			}
			delete(seen, code)
		}
	}
	for code := range seen {
		t.Errorf("%s is found, and no examination says so", code)
	}
}

// What could not be looked at is not called fine.
func TestUnmadeExaminations(t *testing.T) {
	f := &Facts{NotRunning: "x"}
	fine, unmade := Fine(f, Examine(f))
	for _, name := range []string{"versions", "querier", "offloads"} {
		if !slices.Contains(unmade, name) || slices.Contains(fine, name) {
			t.Errorf("%s: fine %v, not made %v", name, fine, unmade)
		}
	}
	if !slices.Contains(fine, "shared MAC") {
		t.Errorf("the MACs of the file are not fine: %v", fine)
	}
	f = &Facts{File: "x"}
	if fine, _ := Fine(f, Examine(f)); len(fine) > 0 {
		t.Errorf("of a file that cannot be read %v are fine", fine)
	}
}

// A LAN without a querier is told in a status, and before that is sure as what is not
// known yet.
func TestNoQuerierIsToldInAStatus(t *testing.T) {
	for uptime, unseen := range map[time.Duration]bool{membershipTime: true, membershipTime + 1: false} {
		f := well()
		group("239.77.0.2", 0)(f)
		f.Uptime = uptime
		found := Examine(f)
		if len(found) != 1 || !found[0].Note || found[0].Unseen != unseen || found[0].Harms {
			t.Errorf("after %v: %+v", uptime, found)
		}
	}
}
