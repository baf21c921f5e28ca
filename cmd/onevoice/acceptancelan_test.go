package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// found gives the first group of a pattern, or "" when it is not there.
func found(pattern, in string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(in); m != nil {
		return m[1]
	}
	return ""
}

// number is the first group of a pattern as a number, -1 when it is not there.
func number(pattern, in string) float64 {
	f, err := strconv.ParseFloat(found(pattern, in), 64)
	if err != nil {
		return -1
	}
	return f
}

// least judges by a number that must be as good as the plain server's, by this
// share of it.
func least(share float64) func(plain, ours string) string {
	return func(plain, ours string) string {
		if p, o := number(`([\d.]+)`, plain), number(`([\d.]+)`, ours); o < 0 || o < share*p {
			return fmt.Sprintf("less than %v of the plain server's", share)
		}
		return ""
	}
}

// questions are those that exactly one node answers.
func (a *arena) questions() {
	once := func(plain, ours string) string {
		if why := same(plain, ours); why != "" {
			return why
		}
		if strings.HasPrefix(ours, "0 ") {
			return "nobody answers"
		}
		return ""
	}
	// nearly lets a busy machine lose a few, and none come twice.
	nearly := func(plain, ours string) string {
		if !strings.HasSuffix(ours, ", 0 again") {
			return "answers come twice"
		}
		return least(0.97)(plain, ours)
	}
	a.judged("arping", "arping", func(at target) string {
		out := a.run("arping", "-c", "20", "-w", "10", "-W", "0.05", "-I", "eth0", at.v4)
		n := strings.Count(out, "bytes from")
		macs := map[string]bool{}
		for _, m := range regexp.MustCompile(`from ([0-9a-f:]{17})`).FindAllStringSubmatch(out, -1) {
			macs[m[1]] = true
		}
		return fmt.Sprintf("%d answers to 20 questions, %d addresses", n, len(macs))
	}, once)
	a.judged("arp-scan", "arp-scan", func(at target) string {
		out := a.run("arp-scan", "-I", "eth0", "--retry=1", at.v4)
		return fmt.Sprintf("%d answers, %d of them again", strings.Count(out, at.v4+"\t"), strings.Count(out, "DUP"))
	}, once)
	a.judged("fping", "fping", func(at target) string {
		out := a.run("fping", "-c", "200", "-p", "10", "-q", at.v4)
		return fmt.Sprintf("%s of 200, %d again", found(`= \d+/(\d+)/`, out), strings.Count(out, "duplicate"))
	}, nearly)
	a.judged("fping, IPv6", "fping", func(at target) string {
		out := a.run("fping", "-6", "-c", "200", "-p", "10", "-q", at.v6)
		return fmt.Sprintf("%s of 200, %d again", found(`= \d+/(\d+)/`, out), strings.Count(out, "duplicate"))
	}, nearly)
	a.judged("ndisc6", "ndisc6", func(at target) string {
		out := a.run("ndisc6", "-m", "-r", "1", "-w", "1000", at.v6, "eth0")
		return fmt.Sprintf("%d answers", strings.Count(out, "link-layer address"))
	}, once)
	for _, kind := range [][]string{{"--tcp", "-p", "22"}, {"--icmp"}, {"--udp", "-p", "53", "--data-string", "x"}} {
		a.judged("nping "+kind[0], "nping", func(at target) string {
			args := append([]string{"nping", "--privileged", "-q", "-c", "200", "--rate", "200"}, kind...)
			out := a.run(append(args, at.v4)...)
			return fmt.Sprintf("%s answers to %s", found(`Rcvd: (\d+)`, out), found(`Raw packets sent: (\d+)`, out))
		}, least(0.97))
	}
}

// scans look for what is open.
func (a *arena) scans() {
	state := func(out string) string {
		open := map[string][]string{}
		for _, m := range regexp.MustCompile(`(?m)^(\d+)/(?:tcp|udp)\s+(\S+)`).FindAllStringSubmatch(out, -1) {
			open[m[2]] = append(open[m[2]], m[1])
		}
		var states []string
		for s, ports := range open {
			states = append(states, s+" "+strings.Join(ports, ","))
		}
		slices.Sort(states)
		if m := regexp.MustCompile(`Not shown: (.*)`).FindStringSubmatch(out); m != nil {
			states = append(states, "else "+m[1])
		}
		return strings.Join(states, "; ")
	}
	scan := func(args ...string) func(at target) string {
		return func(at target) string {
			address := at.v4
			if slices.Contains(args, "-6") {
				address = at.v6
			}
			return state(a.run(append(append([]string{"nmap", "-n", "-Pn", "--max-retries", "3", "--scan-delay", "10ms"}, args...), address)...))
		}
	}
	// openOnly: what answers as open is what the plain server has open.
	openOnly := func(plain, ours string) string {
		if p, o := found(`(?:^|; )(open [\d,]+)`, plain), found(`(?:^|; )(open [\d,]+)`, ours); p != o {
			return fmt.Sprintf("%q is open, want %q", o, p)
		}
		return ""
	}
	for _, s := range []struct {
		name  string
		args  []string
		worse func(plain, ours string) string
	}{
		{"nmap SYN scan", []string{"-sS", "-p", "20-80,440-450"}, same},
		{"nmap connect scan", []string{"-sT", "-p", "20-80,440-450"}, same},
		{"nmap SYN scan, IPv6", []string{"-6", "-sS", "-p", "20-80,440-450"}, same},
		{"nmap UDP scan", []string{"-sU", "-p", "50-55"}, openOnly},
		{"nmap null scan", []string{"-sN", "-p", "20-40"}, openOnly},
		{"nmap FIN scan", []string{"-sF", "-p", "20-40"}, openOnly},
		{"nmap Xmas scan", []string{"-sX", "-p", "20-40"}, openOnly},
		{"nmap ACK scan", []string{"-sA", "-p", "20-40"}, openOnly},
		{"nmap window scan", []string{"-sW", "-p", "20-40"}, openOnly},
		{"nmap services", []string{"-sV", "--version-light", "-p", "22,80,443,53"}, same},
	} {
		a.judged(s.name, "nmap", scan(s.args...), s.worse)
	}
}

// floods are bounded in count, and what they leave is asked by alive.
func (a *arena) floods() {
	anything := func(_, _ string) string { return "" }
	a.judged("hping3, 5,000 SYNs", "hping3", func(at target) string {
		out := a.run("hping3", "-q", "-S", "-p", "22", "-c", "5000", "-i", "u500", at.v4)
		return fmt.Sprintf("%s answers to %s", found(`(\d+) packets received`, out), found(`(\d+) packets transmitted`, out))
	}, least(0.97))
	for _, f := range []struct {
		name string
		args []string
	}{
		{"hping3, 50,000 SYNs of strangers", []string{"--rand-source", "-S", "-p", "22"}},
		{"hping3, 50,000 datagrams of strangers", []string{"--rand-source", "--udp", "-p", "53", "-d", "40"}},
		{"hping3, 50,000 echo requests of strangers", []string{"--rand-source", "--icmp"}},
		{"hping3, 20,000 fragments that never end", []string{"--rand-source", "-S", "-p", "22", "-x", "-d", "100"}},
		{"hping3, 20,000 acknowledgments", []string{"-A", "-p", "22", "-s", "1024"}},
	} {
		count := regexp.MustCompile(`[^\d]`).ReplaceAllString(strings.Fields(f.name)[1], "")
		a.judged(f.name, "hping3", func(at target) string {
			out := a.run(append(append([]string{"hping3", "-q", "-c", count, "-i", "u40"}, f.args...), at.v4)...)
			return found(`(\d+) packets transmitted`, out) + " sent"
		}, anything)
	}
	a.scapy()
	a.judged("thc-ipv6 implementation6", "atk6-implementation6", func(at target) string {
		out := a.run("atk6-implementation6", "eth0", at.v6)

		passed := regexp.MustCompile(`(?m)^Test +(\d+):.*PASSED`).FindAllStringSubmatch(out, -1)
		var names []string
		for _, m := range passed {
			names = append(names, m[1])
		}
		return fmt.Sprintf("%d cases answered: %s", len(passed), strings.Join(names, " "))
	}, anything)
	for _, kind := range []string{"-1", "-2", "-3", "-4", "-5"} {
		a.judged("thc-ipv6 fuzz_ip6 "+kind, "atk6-fuzz_ip6", func(at target) string {
			out := a.runIn(8*time.Second, "atk6-fuzz_ip6", "-x", "-n", "1", "-p", "0", kind, "eth0", at.v6)
			return or(found(`(done.*|[Ff]uzz.*)`, out), out)
		}, anything)
	}
	for _, f := range [][]string{
		{"ns6", "-i", "eth0", "-d", "VIP", "-t", "VIP", "-F", "50", "-l", "-z", "1"},
		{"na6", "-i", "eth0", "-d", "VIP", "-t", "VIP", "-F", "50", "-l", "-z", "1", "-e", "-o"},
		{"frag6", "-i", "eth0", "-d", "VIP", "-F", "100", "-l", "-z", "1"},
		{"icmp6", "-i", "eth0", "-d", "VIP", "--icmp6-packet-too-big", "--mtu", "1280", "-f", "2001:db8:77::101", "-l", "-z", "1"},
		{"tcp6", "-i", "eth0", "-s", "2001:db8:77::/64", "-d", "VIP", "-a", "22", "-X", "S", "-F", "100", "-l", "-z", "1"},
		{"ra6", "-i", "eth0", "-d", "VIP", "-t", "0", "-l", "-z", "1"},
		{"rd6", "-i", "eth0", "-d", "VIP", "-t", "2001:db8::9", "-n", "2001:db8:77::9", "-l", "-z", "1"},
	} {
		a.judged("ipv6toolkit "+f[0], f[0], func(at target) string {
			args := slices.Clone(f)
			for i := range args {
				args[i] = strings.Replace(args[i], "VIP", at.v6, 1)
			}
			a.runIn(4*time.Second, args...)
			return "over"
		}, anything)
	}
}

// scapy sends frames of its own making, and counts what comes back: never more than
// was sent.
func (a *arena) scapy() {
	file := filepath.Join(a.dir, "fuzz.py")
	a.must(os.WriteFile(file, []byte(`import random, sys, time
from scapy.all import *
conf.verb, conf.iface = 0, "eth0"
random.seed(7)
to, to6 = sys.argv[1], sys.argv[2]
kinds = [lambda: IP(dst=to)/fuzz(TCP(dport=22)), lambda: IP(dst=to)/fuzz(UDP(dport=53)), lambda: IP(dst=to)/fuzz(ICMP()),
  lambda: fuzz(IP(dst=to, src="10.77.0.101"))/TCP(dport=22, sport=random.randint(1024, 65535)),
  lambda: IPv6(dst=to6)/fuzz(TCP(dport=22)), lambda: IPv6(dst=to6)/fuzz(ICMPv6EchoRequest()),
  lambda: IPv6(dst=to6)/IPv6ExtHdrRouting(type=0, addresses=["2001:db8:77::101"])/TCP(dport=22),
  lambda: IP(dst=to, options=[IPOption_LSRR(routers=["10.77.0.101"])])/TCP(dport=22)]
sent, sniffer = 0, AsyncSniffer(iface="eth0", filter="src host %s or src host %s" % (to, to6))
sniffer.start(); time.sleep(0.5)
socket2 = conf.L3socket(iface="eth0")
for i in range(2000):
    p = kinds[i % len(kinds)]()
    p = p.__class__(bytes(p)) # what is random is settled
    try:
        socket2.send(p); sent += 1
    except Exception:
        pass
time.sleep(1); sniffer.stop()
back = [p for p in sniffer.results if not p.haslayer(ARP) and not p.haslayer(ICMPv6ND_NA) and not p.haslayer(ICMPv6ND_NS)]
syns = len([p for p in back if p.haslayer(TCP) and p[TCP].flags == "SA"])
print("sent %d back %d synacks %d" % (sent, len(back), syns))
`), 0o644))
	a.judged("scapy", "scapy", func(at target) string {
		out := a.run("/usr/bin/python3", file, at.v4, at.v6)
		return or(found(`(sent.*)`, out), out)
	}, func(_, ours string) string {
		if sent, back := number(`sent (\d+)`, ours), number(`back (\d+)`, ours); sent < 1000 || back > sent {
			return "more comes back than was sent, or nothing was sent"
		}
		return ""
	})
}
