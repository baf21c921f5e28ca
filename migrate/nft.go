package migrate

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"onevoice/config"
)

// nft reads `nft list ruleset` (nft(8), jhash expression).
func (r *reading) nft() {
	foreign := false
	r.lines(func(n int, line string) {
		if line, _, _ = strings.Cut(line, " # handle"); strings.HasPrefix(line, "#") {
			// What iptables-nft writes is listed by nft as it understands it.
			foreign = strings.Contains(line, "managed by iptables-nft")
			return
		}
		if strings.HasPrefix(line, "table ") && !strings.Contains(line, "{") {
			return
		}
		words := nftWords(line)
		x := &nftRule{r: r, line: n, words: words}
		switch {
		case contains(words, "jhash") && foreign, contains(words, "jhash") && strings.Contains(line, "ct original saddr"):
			r.leave(n, "a rule of iptables (-m cluster) as nft lists it, which does not tell the node; read what iptables-save prints")
		case contains(words, "jhash"):
			x.jhash()
		case contains(words, "symhash"):
			r.leave(n, "symhash has a seed that each kernel makes by itself, and counts both ends; nodes cannot share by it, and it is not carried over")
		case strings.Contains(line, "ip saddr &"):
			x.netmask()
		}
	})
}

// nftWords splits a line, with sets and what is in quotes as one word each.
func nftWords(line string) (out []string) {
	for len(line) > 0 {
		line = strings.TrimLeft(line, " \t")
		end := strings.IndexAny(line, " \t")
		for _, pair := range []string{"{}", "\"\""} {
			if strings.HasPrefix(line, pair[:1]) && len(line) > 1 {
				if close := strings.IndexByte(line[1:], pair[1]); close >= 0 {
					end = close + 2
				}
			}
		}
		if end < 0 {
			end = len(line)
		}
		if line[:end] != "" {
			out = append(out, line[:end])
		}
		line = line[end:]
	}
	return out
}

// nftRule is a rule that is being read: words are what is left of it.
type nftRule struct {
	r     *reading
	line  int
	words []string
	s     Shared
	// set are the values that the rule compares with.
	set              []int
	negated, dropped bool
	// verdicts by value, of a vmap.
	verdicts map[int]string
}

// next takes a word.
func (x *nftRule) next() string {
	if len(x.words) == 0 {
		return ""
	}
	w := x.words[0]
	x.words = x.words[1:]
	return w
}

func (x *nftRule) take(words ...string) bool {
	if len(x.words) < len(words) {
		return false
	}
	for i, w := range words {
		if x.words[i] != w {
			return false
		}
	}
	x.words = x.words[len(words):]
	return true
}

func (x *nftRule) leave(format string, args ...any) bool {
	x.r.leave(x.line, format, args...)
	return false
}

// jhash reads matches, the hash, what it is compared with, and the verdict.
func (x *nftRule) jhash() {
	if !x.matches() || !x.take("jhash") {
		if len(x.words) > 0 {
			x.leave("%q before jhash is not understood, so the rule is not carried over", x.words[0])
		}
		return
	}
	if !x.hash() || !x.compared() || !x.verdict() {
		return
	}
	n := x.s.Sharing.Nodes
	if x.verdicts != nil {
		for v := range n {
			if x.verdicts[v] == "accept" {
				x.s.Local = append(x.s.Local, v)
			}
		}
	} else {
		x.s.Local = kept(x.set, x.negated, x.dropped, 0, n)
	}
	x.r.add(x.line, x.s)
}

// matches takes what stands before the hash.
func (x *nftRule) matches() bool {
	for {
		switch {
		case x.take("iifname"), x.take("iif"):
			x.s.Interface = strings.Trim(x.next(), `"`)
		case x.take("ip", "daddr"), x.take("ip6", "daddr"):
			word := x.next()
			a, err := netip.ParseAddr(word)
			if err != nil {
				x.words = nil
				return x.leave("the rule is about %s, which is not one address; onevoice shares single addresses", word)
			}
			x.s.Address = a
		case x.take("ether", "daddr"):
			mac, err := net.ParseMAC(x.next())
			if err == nil {
				x.s.MAC = mac.String()
			}
		case x.take("meta", "l4proto"):
			x.next()
		case x.take("tcp", "dport"):
			x.ports("tcp")
		case x.take("udp", "dport"):
			x.ports("udp")
		case x.take("meta", "mark", "set"), x.take("ct", "mark", "set"):
			x.words = nil
			return x.leave("the hash is written into a mark, and what becomes of that is not followed; name the numbers of this node with local")
		default:
			return true
		}
	}
}

func (x *nftRule) ports(proto string) {
	word := x.next()
	for _, text := range strings.Split(strings.Trim(word, "{} "), ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
		if err != nil || n == 0 {
			x.leave("ports %s are not carried over; write their services yourself", word)
			return
		}
		x.s.Ports = append(x.s.Ports, Port{proto, uint16(n)})
	}
}

// hash takes `ip saddr mod N seed S [offset O]`. The offset is taken off: ours counts
// from 0.
func (x *nftRule) hash() bool {
	if !x.take("ip", "saddr", "mod") && !x.take("ip6", "saddr", "mod") {
		return x.leave("jhash of something else than ip saddr or ip6 saddr is not carried over")
	}
	total, err := strconv.ParseUint(x.next(), 0, 16)
	if err != nil || total == 0 || total > 256 {
		return x.leave("mod is no number from 1 to 256, so the rule is not carried over")
	}
	if !x.take("seed") {
		return x.leave("jhash without a seed: each kernel makes its own, so nodes cannot share by it; it is not carried over")
	}
	seed, err := strconv.ParseUint(x.next(), 0, 32)
	if err != nil {
		return x.leave("the seed is no number, so the rule is not carried over")
	}
	x.s.Sharing = config.Sharing{Hash: config.HashNFT, Seed: uint32(seed), Nodes: int(total)}
	x.s.Affinity = config.SourceIP
	return true
}

// compared takes the values, with an offset before them or none.
func (x *nftRule) compared() bool {
	offset := 0
	if x.take("offset") {
		n, err := strconv.ParseInt(x.next(), 0, 32)
		if err != nil {
			return x.leave("the offset is no number, so the rule is not carried over")
		}
		offset = int(n)
	}
	if x.take("vmap") {
		return x.vmap(offset)
	}
	if !x.take("==") && !x.take("eq") && (x.take("!=") || x.take("ne")) {
		x.negated = true
	}
	word := x.next()
	for _, text := range strings.Split(strings.Trim(word, "{} "), ",") {
		from, to, ok := valuesOf(text)
		if !ok {
			return x.leave("%q is no number of a node, so the rule is not carried over", word)
		}
		for v := from; v <= to && len(x.set) <= maxValue; v++ {
			x.set = append(x.set, v-offset)
		}
	}
	return true
}

// valuesOf reads a value or a range of them.
func valuesOf(text string) (from, to int, ok bool) {
	a, b, ranged := strings.Cut(strings.TrimSpace(text), "-")
	first, err := strconv.ParseUint(a, 0, 16)
	last, errLast := first, error(nil)
	if ranged {
		last, errLast = strconv.ParseUint(b, 0, 16)
	}
	return int(first), int(last), err == nil && errLast == nil && first <= last && last <= maxValue
}

// maxValue is the largest number of a node that is read: 256 of them, and an offset.
const maxValue = 1 << 10

// vmap takes { 0 : accept, 1-3 : drop }.
func (x *nftRule) vmap(offset int) bool {
	word := x.next()
	x.verdicts = map[int]string{}
	for _, text := range strings.Split(strings.Trim(word, "{} "), ",") {
		values, verdict, ok := strings.Cut(text, " : ")
		from, to, okValues := valuesOf(values)
		verdict = strings.TrimSpace(verdict)
		if !ok || !okValues || verdict != "accept" && verdict != "drop" {
			return x.leave("%q is no map of numbers to accept and drop, so the rule is not carried over", word)
		}
		for v := from; v <= to; v++ {
			x.verdicts[v-offset] = verdict
		}
	}
	return true
}

// verdict takes the rest.
func (x *nftRule) verdict() bool {
	decided := x.verdicts != nil
	for len(x.words) > 0 {
		switch {
		case x.take("counter", "packets"):
			x.words = x.words[min(3, len(x.words)):]
		case x.take("counter"), x.take("meta", "pkttype", "set", "host"):
		case x.take("comment"):
			x.next()
		case x.take("accept"), x.take("return"):
			decided = true
		case x.take("meta", "mark", "set"), x.take("ct", "mark", "set"):
			x.next()
			decided = true
		case x.take("drop"), x.take("reject"):
			decided, x.dropped = true, true
		default:
			return x.leave("%q after jhash is not understood, so the rule is not carried over", x.words[0])
		}
	}
	if !decided {
		return x.leave("the rule only counts, so it is not carried over")
	}
	return true
}

// netmask reads a rule by the low bits: ip saddr & 0.0.0.3 == 0.0.0.1.
func (x *nftRule) netmask() {
	if !x.matches() || !x.take("ip", "saddr", "&") {
		return
	}
	mask, err := netip.ParseAddr(x.next())
	x.negated = !x.take("==") && x.take("!=")
	value, errValue := netip.ParseAddr(x.next())
	if err != nil || errValue != nil || !mask.Is4() || !value.Is4() {
		return
	}
	m, v := mask.As4(), value.As4()
	low := binary.BigEndian.Uint32(m[:])
	if number := binary.BigEndian.Uint32(v[:]); isLowMask(low) && number <= low {
		x.s.Sharing, x.s.Affinity = config.Sharing{Hash: config.HashNetmask, Nodes: int(low) + 1}, config.SourceIP
		if x.verdict() {
			x.s.Local = kept([]int{int(number)}, x.negated, x.dropped, 0, x.s.Sharing.Nodes)
			x.r.add(x.line, x.s)
		}
	}
}
