package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"onevoice/config"
)

// noPeers is written where nobody said the hosts' addresses.
const noPeers = `peers     = [] # write the hosts' own addresses: ["10.77.0.11", "10.77.0.12"]`

var errNothing = errors.New("nothing of it shares an address by a hash that onevoice has")

// Write makes a file of ours of what was read. What had to be left out, or guessed, is
// told besides. A file that onevoice would not take is an error; but for its peers,
// which no rule names.
func Write(shares []Shared, o Options) (string, []Left, error) {
	vips, left, err := merge(shares, o)
	if err != nil {
		return "", left, err
	}
	if len(vips) == 0 {
		return "", left, errNothing
	}
	// Services of one interface go into one file.
	device := vips[0].Interface
	vips = slices.DeleteFunc(vips, func(v *vip) bool {
		if v.Interface != device {
			left = append(left, Left{v.From, fmt.Sprintf("%s is on %s, and the file is about %s; read its rules alone for a file of their own", v.Address, v.Interface, device)})
		}
		return v.Interface != device
	})
	text := render(vips, o)
	tried := text
	if len(o.Peers) == 0 {
		left = append(left, Left{Line{File: vips[0].From.File}, "the hosts' own addresses are not said; write them as peers, or name them with --peers"})
		tried = strings.Replace(text, noPeers, fmt.Sprintf("peers = [%q]", stranger(vips)), 1)
	}
	if len(o.Peers) == 2 {
		left = append(left, Left{Line{File: vips[0].From.File}, `two_nodes = "preferred" is written: service stops while the first peer is away; a witness on a third box is better (README.md)`})
	}
	if _, err := config.Parse("the file", []byte(tried), "unix1"); err != nil {
		return "", left, fmt.Errorf("what was read makes no file that onevoice takes: %w", err)
	}
	return text, left, nil
}

// stranger is an address that may be a peer's, to try the file with.
func stranger(vips []*vip) netip.Addr {
	for i := byte(1); ; i++ {
		a := netip.AddrFrom4([4]byte{192, 0, 2, i})
		if i == 255 || !slices.ContainsFunc(vips, func(v *vip) bool { return v.Address == a }) {
			return a
		}
	}
}

func render(vips []*vip, o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by `onevoice migrate`. docs/migrate.md tells how to go on, host by host.\n\n")
	fmt.Fprintf(&b, "[cluster]\nname      = %s\ninterface = %s\nkey_file  = \"/etc/onevoice/cluster.key\"\n",
		quoted(cmp.Or(o.Cluster, "shared-"+vips[0].Address.String())), quoted(vips[0].Interface))
	var peers []string
	for _, p := range o.Peers {
		peers = append(peers, quoted(p.String()))
	}
	if len(peers) == 0 {
		fmt.Fprintln(&b, noPeers)
	} else {
		fmt.Fprintf(&b, "peers     = [%s]\n", strings.Join(peers, ", "))
	}
	if len(peers) == 2 {
		fmt.Fprintf(&b, "two_nodes = \"preferred\"\n")
	}
	for _, v := range vips {
		fmt.Fprintf(&b, "\n[[vip]]\naddress = %s\n", quoted(netip.PrefixFrom(v.Address, v.Bits).String()))
		if v.MAC != "" {
			fmt.Fprintf(&b, "mac     = %s\n", quoted(v.MAC))
		}
	}
	used := map[string]bool{}
	for _, v := range vips {
		for _, p := range v.Ports {
			v.service(&b, p, used)
		}
	}
	return b.String()
}

// service writes a service; hash and what goes with it are the same for all of a VIP.
func (v *vip) service(b *strings.Builder, p Port, used map[string]bool) {
	name := serviceName(p)
	for i := 2; used[name]; i++ {
		name = fmt.Sprintf("%s-%d", serviceName(p), i)
	}
	used[name] = true
	scheme, backend := "", "127.0.0.1"
	if p.Proto == "udp" {
		scheme = "udp://"
	}
	if v.Address.Is6() {
		backend = "::1"
	}
	fmt.Fprintf(b, "\n[[service]]\nname        = %s\nlisten      = %s\nbackend     = %s\n", quoted(name),
		quoted(scheme+netip.AddrPortFrom(v.Address, p.Number).String()), quoted(netip.AddrPortFrom(netip.MustParseAddr(backend), p.Number).String()))
	if v.Affinity != config.SourceIP {
		fmt.Fprintf(b, "affinity    = %s\n", quoted(string(v.Affinity)))
	}
	fmt.Fprintf(b, "hash        = %s\n", quoted(string(v.Sharing.Hash)))
	if v.Sharing.Seed != 0 {
		fmt.Fprintf(b, "hash_seed   = %d\n", v.Sharing.Seed)
	}
	fmt.Fprintf(b, "total_nodes = %d\nlocal       = { %s }\n", v.Sharing.Nodes, v.local())
}

// local is the names with their numbers, in the order of the first of each.
func (v *vip) local() string {
	var names []string
	numbers := map[string][]string{}
	for i, name := range v.homes {
		if numbers[name] == nil {
			names = append(names, name)
		}
		numbers[name] = append(numbers[name], fmt.Sprint(i+v.Sharing.First()))
	}
	var out []string
	for _, name := range names {
		key := name
		if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(name) {
			key = quoted(name)
		}
		out = append(out, fmt.Sprintf("%s = [%s]", key, strings.Join(numbers[name], ", ")))
	}
	return strings.Join(out, ", ")
}

func serviceName(p Port) string {
	known := map[Port]string{{"tcp", 22}: "ssh", {"tcp", 80}: "http", {"tcp", 443}: "https", {"tcp", 25}: "smtp", {"tcp", 143}: "imap", {"tcp", 993}: "imaps", {"tcp", 53}: "dns-tcp", {"udp", 53}: "dns"}
	if name := known[p]; name != "" {
		return name
	}
	return fmt.Sprintf("%s-%d", p.Proto, p.Number)
}

// quoted is a text of TOML.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r < ' ' || r == 0x7f || r == '\uFFFD':
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
