package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// judgeStory feeds a story to a new judge.
func judgeStory(text string) *Judge {
	j := newTestJudge()
	for _, f := range tell(text) {
		f.feed(j, 0)
	}
	return j
}

// handshake is how every good flow begins.
const handshake = `
	client1 SYN 1000
	n1 SYNACK 5000 1001
	client1 ACK 1001 5001
`

// breachStories provoke each rule, and each once.
func breachStories() map[string]struct {
	text string
	want Rule
} {
	return map[string]struct {
		text string
		want Rule
	}{
		"two nodes accept a SYN":                     {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n n2 SYNACK 9000 1001", RuleSYNTwoNodes},
		"two nodes accept with one number":           {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n n2 SYNACK 5000 1001", RuleSYNTwoNodes},
		"one node, two numbers for a retransmission": {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n1 SYNACK 5001 1001", RuleSYNTwoNumbers},
		"two numbers after the handshake":            {handshake + "n1 SYNACK 6000 1001", RuleSYNTwoNumbers},
		"a SYN-ACK out of the blue":                  {"n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for another SYN":                  {"client1 SYN 1000 \n n1 SYNACK 5000 2001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN with a wrong checksum":  {"client1 SYN 1000 sum \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN with a bad TCP option":  {"client1 SYN 1000 overrun \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN with a bad IP option":   {"client1 SYN 1000 ipoverrun \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN with a source route":    {"client1 SYN 1000 route \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN from loopback":          {"client1 SYN 1000 loopback \n n1 SYNACK 5000 1001 loopback", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN with FIN":               {"client1 SYNFIN 1000 \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"a SYN-ACK for a SYN from port 0":            {"client1 SYN 1000 cport=0 \n n1 SYNACK 5000 1001 cport=0", RuleMalformed},
		"a SYN-ACK for a tagged SYN":                 {"client1 SYN 1000 tagged \n n1 SYNACK 5000 1001", RuleSYNACKUnasked},
		"accepted and refused":                       {"client1 SYN 1000 port=23 \n n1 SYNACK 5000 1001 port=23 \n n2 RSTACK 0 1001 port=23", RuleSYNACKAndReset},
		"refused and accepted":                       {"client1 SYN 1000 port=23 \n n2 RSTACK 0 1001 port=23 \n n1 SYNACK 5000 1001 port=23", RuleSYNACKAndReset},
		"another node speaks in a flow":              {handshake + "n2 DATA 5001 1001", RuleFlowTwoNodes},
		"another node ends a flow":                   {handshake + "n2 FIN 5001 1001", RuleFlowTwoNodes},
		"the old owner answers a reused tuple":       {handshake + "client1 FIN 1001 5001 \n n1 FIN 5001 1002 \n client1 SYN 7000 +1s \n n2 SYNACK 8000 7001 \n client1 ACK 7001 8001 \n n1 ACK 5002 1002", RuleFlowTwoNodes},
		"data before the SYN-ACK":                    {"client1 SYN 1000 \n n1 ACK 5001 1001", RuleSegmentUnasked},

		"a reset out of the blue":                {"n1 RST 5001", RuleResetUnasked},
		"a reset with a number nobody said":      {"client1 ACK 1001 5001 \n n1 RST 6000", RuleResetUnasked},
		"a reset in answer to a reset":           {"client1 RSTACK 1001 5001 \n n1 RST 5001", RuleResetUnasked},
		"a reset in answer to a malformed stray": {"client1 ACK 1001 5001 sum \n n1 RST 5001", RuleResetUnasked},
		"a SYN's reset without its number":       {"client1 SYN 1000 port=23 \n n1 RSTACK 0 1000 port=23", RuleResetUnasked},
		"two nodes reset a stray":                {"client1 ACK 1001 5001 \n n1 RST 5001 \n n2 RST 5001", RuleResetTwice},
		"one node resets a stray twice":          {"client1 ACK 1001 5001 \n n1 RST 5001 \n n1 RST 5001", RuleResetTwice},
		"two nodes refuse a SYN":                 {"client1 SYN 1000 port=23 \n n1 RSTACK 0 1001 port=23 \n n2 RSTACK 0 1001 port=23", RuleResetTwice},
		"a node resets another's flow":           {handshake + "client1 DATA 1001 5001 \n n2 RST 5001", RuleResetForeign},
		"an old holder resets the flow that came after its own": {handshake + `
			client1 SYN 7000
			n2 SYNACK 8000 7001
			client1 ACK 7001 8001
			client1 DATA 7001 8001
			n1 RST 8001`, RuleResetForeign},
		"many strays excuse no reset of the flow after them": {strings.Repeat("client1 ACK 1001 5001\n", 20) + handshake + "client1 FIN 1001 5001 \n n1 FIN 5001 1002 \n n2 RST 9999", RuleResetUnasked},
		"many strays excuse no reset of another's half-open": {strings.Repeat("client1 ACK 1001 5001\n", 20) + "client1 SYN 1000 \n n1 SYNACK 5000 1001 \n n2 RST 9999", RuleResetForeign},
		"more resets than many strays":                       {strings.Repeat("client1 ACK 1001 5001\n", 20) + strings.Repeat("n1 RST 5001\n", 21), RuleResetTwice},
		"a long flow excuses no foreign reset":               {handshake + strings.Repeat("client1 DATA 1001 5001\n", 20) + "n2 RST 6000", RuleResetUnasked},
		"a node resets another's half-open flow":             {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 ACK 1001 7777 \n n2 RST 7777", RuleResetForeign},
		"an ACK that does not fit draws a reset":             {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 ACK 1001 7777 \n n1 RST 7777", RuleResetHalfOpen},
		"a service that accepts refuses a client":            {"client1 SYN 1000 \n n1 RSTACK 0 1001", RuleResetServed},

		"an ARP answer without a question":            {"n1 is-at", RuleAnswerUnasked},
		"an ARP answer to a malformed question":       {"client1 who-has short \n n1 is-at", RuleAnswerUnasked},
		"an ARP answer to somebody else":              {"client1 who-has addr=102 \n n1 is-at", RuleAnswerUnasked},
		"an ARP answer that comes a minute late":      {"client1 who-has \n n1 is-at +1m", RuleAnswerUnasked},
		"an ARP answer to a question still in memory": {"client1 who-has \n n1 is-at +11s", RuleAnswerUnasked},
		"two nodes answer an ARP request":             {"client1 who-has \n n1 is-at \n n2 is-at", RuleAnswerTwice},
		"two nodes share two ARP requests":            {"client1 who-has \n client1 who-has \n n1 is-at \n n2 is-at", RuleAnswerTwoNodes},
		"two nodes answer after a lost request":       {"client1 who-has \n client1 who-has +1s \n n1 is-at \n n2 is-at", RuleAnswerTwoNodes},
		"two echo replies":                            {"client1 ping 1 \n n1 pong 1 \n n1 pong 1", RuleAnswerTwice},
		"more answers than many questions":            {strings.Repeat("client1 ping 1\n", 20) + strings.Repeat("n1 pong 1\n", 21), RuleAnswerTwice},
		"an old overrun excuses nothing":              {strings.Repeat("client1 ping 1\n", 20) + "client1 ping 1 +11s \n n1 pong 1 \n n1 pong 1", RuleAnswerTwice},
		"an echo reply to another request":            {"client1 ping 1 \n n1 pong 2", RuleAnswerUnasked},
		"an echo reply to a bad request":              {"client1 ping 1 sum \n n1 pong 1", RuleAnswerUnasked},

		"a living node's flow is reset while owners change":       {"lan moving\n" + handshake + "client1 DATA 1001 5001 +5s \n n2 RST 5001", RuleResetForeign},
		"a dead node's flow is reset before the grace ends":       {handshake + "lan moving \n n1 dies \n client1 DATA 1001 5001 +2900ms \n n2 RST 5001", RuleResetEarly},
		"a dead node's half-open is reset before the grace ends":  {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n lan moving \n n1 dies \n client1 ACK 1001 7777 \n n2 RST 7777", RuleResetEarly},
		"a cut node's flow is reset before the grace ends":        {handshake + "lan moving \n n1 cut \n client1 DATA 1001 5001 +2s \n n2 RST 5001", RuleResetEarly},
		"a flow of a node that was cut for a moment":              {handshake + "lan moving \n n1 cut \n n1 whole +2s \n client1 DATA 1001 5001 +5s \n n2 RST 5001", RuleResetForeign},
		"a flow of a node that was whole almost in time, at once": {handshake + "lan moving \n n1 cut \n n1 whole +2500ms \n client1 DATA 1001 5001 \n n2 RST 5001", RuleResetForeign},
		"a flow of the time after a node's death":                 {"lan moving \n n1 dies \n n1 starts +1s" + handshake + "client1 DATA 1001 5001 +5s \n n2 RST 5001", RuleResetForeign},
		"orphans are reset twice":                                 {handshake + "lan moving \n n1 dies \n client1 DATA 1001 5001 +4s \n n2 RST 5001 \n n3 RST 5001", RuleResetTwice},
		"another node serves a dead node's flow":                  {handshake + "lan moving \n n1 dies \n client1 DATA 1001 5001 +4s \n n2 DATA 5001 1011", RuleFlowTwoNodes},

		"two nodes answer one SYN while owners change":              {"lan moving \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n n2 SYNACK 9000 1001", RuleSYNTwoNodes},
		"two nodes answer one retransmission":                       {"lan moving \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n1 SYNACK 5000 1001 \n n2 SYNACK 9000 1001", RuleSYNTwoNodes},
		"the old owner goes on answering":                           {"lan moving \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n2 SYNACK 9000 1001 \n n1 SYNACK 5000 1001 +1s", RuleSYNTwoNodes},
		"a retransmission meets another owner in a calm":            {"client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n2 SYNACK 9000 1001", RuleSYNTwoNodes},
		"a retransmission meets another owner after a calm":         {"lan moving \n lan settled \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n2 SYNACK 9000 1001", RuleSYNTwoNodes},
		"one node answers one SYN with two numbers in a move":       {"lan moving \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n n1 SYNACK 6000 1001", RuleSYNTwoNumbers},
		"the new owner serves what the old one accepted":            {"lan moving \n client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 1000 +1s \n n2 SYNACK 9000 1001 \n client1 ACK 1001 5001 \n n2 DATA 9001 1001", RuleFlowTwoNodes},
		"two nodes answer a second ARP request while owners change": {"lan moving \n client1 who-has \n client1 who-has +1s \n n2 is-at \n n3 is-at", RuleAnswerTwoNodes},
		"two nodes answer an ARP request while owners change":       {"lan moving \n client1 who-has \n n2 is-at \n n3 is-at", RuleAnswerTwice},
		"a heartbeat from the cluster MAC":                          {"n1 beat from=cluster", RuleClusterSource},
		"a heartbeat that is too short":                             {"n1 beat short", RuleMalformed},

		"a node names its own MAC for the VIP":    {"client1 who-has \n n1 is-at mac=other", RuleClaim},
		"a client claims the VIP":                 {"client1 who-has as-vip", RuleClaim},
		"a node asks as the VIP with its own MAC": {"n1 who-has as-vip", RuleClaim},
		"a node asks as the VIP":                  {"n1 who-has as-vip mac=cluster", RuleVIPAsks},
		"a client speaks as the VIP":              {"client2 RST 1 impostor", RuleImpostor},
		"a client answers for the VIP":            {"client1 who-has \n client2 is-at", RuleImpostor},
		"the cluster MAC as a source":             {"client1 ping 1 \n n1 pong 1 from=cluster", RuleClusterSource},
		"a client uses the cluster MAC":           {"client1 who-has from=cluster", RuleClusterSource},
		"a group MAC as a source":                 {"client1 ping 1 \n n1 pong 1 from=group", RuleGroupSource},
		"a wrong TCP checksum":                    {handshake + "n1 DATA 5001 1001 sum", RuleMalformed},
		"a wrong ICMP checksum":                   {"client1 ping 1 \n n1 pong 1 sum", RuleMalformed},
		"a wrong IP checksum":                     {"client1 SYN 1000 \n n1 SYNACK 5000 1001 ipsum", RuleMalformed},
		"a wrong IP checksum of a vouched packet": {handshake + "n1 DATA 5001 1001 ipsum vouched", RuleMalformed},
		"an ARP packet that is too short":         {"n1 who-has short", RuleMalformed},
		"a node sends a VLAN tag":                 {"client1 ping 1 \n n1 pong 1 tagged", RuleMalformed},
	}
}

func TestBreaches(t *testing.T) {
	for name, c := range breachStories() {
		t.Run(name, func(t *testing.T) {
			v := judgeStory(c.text).Verdict()
			if diff := cmp.Diff(map[Rule]int{c.want: 1}, v.Rules); diff != "" {
				t.Fatalf("rules broken (-want +got):\n%s\n%v", diff, v.Breaches)
			}
			if v.Held() || v.Err() == nil {
				t.Error("the verdict is that everything held")
			}
			b := v.Breaches[0]
			last := tell(c.text)
			if len(b.Frames) == 0 || b.Frames[len(b.Frames)-1].At != last[len(last)-1].at {
				t.Errorf("the breach does not show the frame that made it: %v", b.Frames)
			}
			if !strings.Contains(b.Text, last[len(last)-1].sender.Host) {
				t.Errorf("the sentence does not name the host: %s", b.Text)
			}
		})
	}
}

// Every rule in the sources is provoked by a story.
func TestEveryRuleIsProvoked(t *testing.T) {
	source, err := os.ReadFile("judgereport.go")
	if err != nil {
		t.Fatal(err)
	}
	provoked := map[Rule]bool{}
	for _, c := range breachStories() {
		provoked[c.want] = true
	}
	names := regexp.MustCompile(`Rule\w+ +Rule = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) != len(provoked) {
		t.Errorf("%d rules in the sources, %d in the stories", len(names), len(provoked))
	}
	for _, n := range names {
		if !provoked[Rule(n[1])] {
			t.Errorf("no story breaks %s", n[1])
		}
	}
}

// Innocent look-alikes of breaches.
func TestInnocent(t *testing.T) {
	for name, text := range map[string]string{
		"a flow from beginning to end": handshake + `
			client1 DATA 1001 5001
			n1 DATA 5001 1011
			client1 FIN 1011 5011
			n1 FIN 5011 1012
			client1 ACK 1012 5012`,
		"the SYN and the SYN-ACK are sent again": `
			client1 SYN 1000
			client1 SYN 1000 +1s
			n1 SYNACK 5000 1001
			n1 SYNACK 5000 1001
			client1 ACK 1001 5001
			n1 SYNACK 5000 1001`,
		"a tuple is used again with another owner": handshake + `
			client1 FIN 1001 5001
			n1 FIN 5001 1002
			client1 SYN 7000 +1s
			n2 SYNACK 8000 7001
			client1 ACK 7001 8001
			n2 DATA 8001 7001`,
		"a SYN-ACK is sent again while the tuple is used anew": `
			client1 SYN 1000
			n1 SYNACK 5000 1001
			client1 RST 1001 0
			client1 SYN 7000
			n1 SYNACK 5000 1001
			n1 SYNACK 6000 7001`,
		"the same SYN once more after the client gave up": `
			client1 SYN 1000
			n1 SYNACK 5000 1001
			client1 RST 1001 0
			client1 SYN 1000 +2s
			n1 SYNACK 6000 1001
			client1 ACK 1001 6001`,
		"a new SYN into a running flow, whose holder answers": handshake + `
			client1 SYN 7000
			n1 ACK 5001 1001
			client1 RST 5001 0
			client1 SYN 7000 +1s
			n1 SYNACK 8000 7001`,
		"a dead node's flow is reset after the grace": handshake + "lan moving \n n1 dies \n client1 DATA 1001 5001 +3s \n n2 RST 5001",
		"each of a dead node's flow's many segments is reset": handshake + "lan moving \n n1 dies \n" +
			"client1 DATA 1001 5001 +4s\n" + strings.Repeat("client1 DATA 1001 5001\n", 19) + strings.Repeat("n2 RST 5001\n", 20),
		"a dead node's flow is reset when it is back":                  handshake + "lan moving \n n1 dies \n n1 starts +1s \n client1 DATA 1001 5001 \n n2 RST 5001",
		"a dead node's flow is reset long after":                       handshake + "lan moving \n n1 dies \n n1 starts +1s \n lan settled +5s \n client1 DATA 1001 5001 \n n2 RST 5001",
		"a restarted node resets its own old flow":                     handshake + "lan moving \n n1 dies \n n1 starts +1s \n client1 DATA 1001 5001 \n n1 RST 5001",
		"a restarted node resets its own old half-open":                "client1 SYN 1000 \n n1 SYNACK 5000 1001 \n lan moving \n n1 dies \n n1 starts +1s \n client1 ACK 1001 7777 \n n1 RST 7777",
		"a flow of a node that died, and was cut off when it was back": handshake + "lan moving \n n1 dies \n n1 starts +100ms \n n1 cut \n n1 whole +2500ms \n client1 DATA 1001 5001 \n n2 RST 5001",
		"a flow of a node that was cut for long, twice":                handshake + "lan moving \n n1 cut \n n1 whole +4s \n n1 cut \n n1 whole +2500ms \n client1 DATA 1001 5001 \n n2 RST 5001",
		"a flow of a node that was cut for long":                       handshake + "lan moving \n n1 cut \n n1 whole +4s \n client1 DATA 1001 5001 \n n2 RST 5001",
		"a flow of a node that was whole almost in time":               handshake + "lan moving \n n1 cut \n n1 whole +2500ms \n client1 DATA 1001 5001 +600ms \n n2 RST 5001",
		"a new owner answers the retransmission": `
			client1 SYN 1000
			n1 SYNACK 5000 1001
			lan moving
			client1 SYN 1000 +1s
			n2 SYNACK 9000 1001
			n2 SYNACK 9000 1001 +1s
			client1 ACK 1001 9001
			n2 DATA 9001 1001`,
		"what began while owners changed may go on after it": `
			lan moving
			client1 SYN 1000
			n1 SYNACK 5000 1001
			lan settled
			client1 SYN 1000 +1s
			n2 SYNACK 9000 1001`,
		"the old owner's answer crosses the new one's": `
			lan moving
			client1 SYN 1000
			n1 SYNACK 5000 1001
			client1 SYN 1000 +1s
			n2 SYNACK 9000 1001
			n1 SYNACK 5000 1001
			client1 ACK 1001 5001
			n1 DATA 5001 1001`,
		"the retransmission is answered after the handshake": `
			lan moving
			client1 SYN 1000
			n1 SYNACK 5000 1001
			client1 SYN 1000 +1s
			client1 ACK 1001 5001
			n2 SYNACK 9000 1001
			n1 DATA 5001 1001`,
		"a node that was killed answers anew": `
			lan moving
			client1 SYN 1000
			n1 SYNACK 5000 1001
			n1 dies
			n1 starts +500ms
			client1 SYN 1000 +500ms
			n1 SYNACK 6000 1001
			client1 ACK 1001 6001
			n1 DATA 6001 1001`,
		"an ARP request met nobody, the next one the new owner": "lan moving \n client1 who-has \n client1 who-has +1s \n n2 is-at \n client1 who-has +1s \n n3 is-at",
		"two questions at once, between them a move":            "lan moving \n client1 ping 1 \n client1 ping 1 \n n1 pong 1 \n n2 pong 1",
		"the cluster's own frames":                              "n1 beat \n n2 beat \n n1 raft \n n1 beat +40ms",
		"a flow is reset by its node":                           handshake + "client1 DATA 1001 5001 \n n1 RST 5001",
		"a flow is reset by its node for no reason":             handshake + "n1 RSTACK 5001 1001",
		"a half-open flow is restarted by a new SYN":            "client1 SYN 1000 \n n1 SYNACK 5000 1001 \n client1 SYN 2000 \n n1 RSTACK 0 2001",
		"a closed port refuses each SYN":                        "client1 SYN 1000 port=23 \n n1 RSTACK 0 1001 port=23 \n client1 SYN 1000 port=23 +1s \n n1 RSTACK 0 1001 port=23",
		"a stray is reset":                                      "client1 ACK 1001 5001 \n n1 RST 5001",
		"three strays are reset three times":                    "client1 ACK 1001 5001 \n client1 DATA 1001 5001 \n client1 FIN 1011 5001 \n n1 RST 5001 \n n1 RST 5001 \n n1 RST 5001",
		"a FIN without ACK is reset":                            "client1 BAREFIN 1000 0 port=23 \n n1 RSTACK 0 1001 port=23",
		"a late segment of a flow that is over":                 handshake + "client1 RST 1001 5001 \n client1 ACK 1001 5001 +1s \n n2 RST 5001",
		"a flow that ran before the sniffer did":                "n1 DATA 5001 1001 \n client1 ACK 1001 5011 \n n1 DATA 5011 1001 \n n1 RST 5021",
		"an ARP request is answered":                            "client1 who-has \n n1 is-at",
		"an ARP request is not answered":                        "client1 who-has",
		"more questions at once than are remembered":            strings.Repeat("client1 ping 1\n", 20) + strings.Repeat("n1 pong 1\n", 20),
		"more strays at once than are remembered":               strings.Repeat("client1 ACK 1001 5001\n", 20) + strings.Repeat("n1 RST 5001\n", 20),
		"two ARP requests, two answers":                         "client1 who-has \n client1 who-has \n n1 is-at \n n1 is-at",
		"the owner changes between two ARP requests":            "client1 who-has \n n1 is-at \n client1 who-has \n n2 is-at",
		"a probe for the VIP":                                   "client1 who-has addr=0 \n client1 who-has",
		"a node asks for a neighbour in its own name":           "n1 who-has",
		"pings with different numbers":                          "client1 ping 1 \n client1 ping 2 \n n1 pong 2 \n n1 pong 1",
		"the same ping from two addresses":                      "client1 ping 1 \n client1 ping 1 addr=102 \n n1 pong 1 \n n2 pong 1 addr=102",
		"a partial checksum":                                    handshake + "n1 DATA 5001 1001 sum vouched",
		"a super-frame that was cut":                            handshake + "n1 DATA 5001 1001 sum vouched cut",
		"a long frame that cannot be checked":                   handshake + "n1 DATA 5001 1001 cut",
		"a fragment":                                            "client1 ping 1 fragment \n n1 DATA 1 1 fragment",
		"a client sends nonsense":                               "client1 SYN 1000 ipsum \n client1 ping 1 sum \n client1 who-has short",
		"a client's MAC is a router's virtual one":              "client1 who-has from=vmac",
		"a client announces itself with a foreign MAC":          "client1 who-has mac=other",
		"two clients with one port and their own flows":         handshake + "client2 SYN 1000 addr=102 \n n2 SYNACK 9000 1001 addr=102 \n client2 ACK 1001 9001 addr=102",
	} {
		t.Run(name, func(t *testing.T) {
			v := judgeStory(text).Verdict()
			if err := v.Err(); err != nil {
				t.Errorf("%v\n%v", err, v.Breaches)
			}
			if !v.Held() {
				t.Error("nothing was broken, but the verdict does not hold")
			}
		})
	}
}

// A backend that is gone earns resets, until it is back.
func TestServing(t *testing.T) {
	const refused = "client1 SYN 1000 \n n1 RSTACK 0 1001"
	for _, serving := range []bool{false, true} {
		j := newTestJudge()
		j.Serving(testSSH(), serving)
		for _, f := range tell(refused) {
			f.feed(j, 0)
		}
		if held := j.Verdict().Held(); held == serving {
			t.Errorf("serving %v, held %v", serving, held)
		}
	}
}

func TestCounts(t *testing.T) {
	j := judgeStory(handshake + `
		client1 SYN 1000 cport=40001
		client1 SYN 1000 cport=40001 +1s
		n2 SYNACK 5000 1001 cport=40001
		client1 SYN 1 port=23
		n1 RSTACK 0 2 port=23
		client1 SYN 1 port=23
		n1 RSTACK 0 2 port=23
		client1 SYN 1 port=24
		client1 who-has
		n1 is-at
		client1 who-has
		client1 ping 1
		n2 pong 1
		client1 ping 1 fragment
		client1 who-has short
		n1 DATA 5001 1001 cut
		n1 beat
		n1 beat +40ms
		n1 raft`)
	v := j.Verdict()
	want := JudgeCounts{Frames: 22, SYNs: 5, RepeatedSYNs: 1, AnsweredSYNs: 4, Handshakes: 1, ARPRequests: 2, EchoRequests: 1,
		Malformed: 1, Fragments: 1, Unchecked: 1}
	want.Bytes = v.Counts.Bytes
	if diff := cmp.Diff(want, v.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	n1 := v.Nodes["n1"]
	n1.Bytes = 0
	if diff := cmp.Diff(NodeCounts{Frames: 8, Heartbeats: 2, HeartbeatGap: 41 * time.Millisecond, Control: 1, SYNACKs: 1, Flows: 1, Resets: 2, ARPReplies: 1}, n1); diff != "" {
		t.Errorf("n1 (-want +got):\n%s", diff)
	}
	if len(v.Nodes) != 2 {
		t.Errorf("nodes %v, want n1 and n2", slices.Sorted(maps.Keys(v.Nodes)))
	}
	asker := netip.MustParseAddr("10.77.0.101")
	if diff := cmp.Diff(Asked{Asked: 2, Answered: 1, Nodes: []string{"n1"}}, j.ARPAnswers(asker)); diff != "" {
		t.Errorf("ARP answers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Asked{Asked: 1, Answered: 1, Nodes: []string{"n2"}}, j.EchoAnswers(asker)); diff != "" {
		t.Errorf("echo answers (-want +got):\n%s", diff)
	}
}

// A SYN counts as answered once, however often it and its answer are sent.
func TestAnsweredSYNs(t *testing.T) {
	const twice = "client1 SYN 1 port=23 \n client1 SYN 1 port=23 \n"
	for text, want := range map[string]uint64{
		"client1 SYN 1": 0,
		"client1 SYN 1 \n n1 SYNACK 5 2 \n n1 SYNACK 5 2":                  1,
		twice + "n1 RSTACK 0 2 port=23 \n n1 RSTACK 0 2 port=23":           1,
		twice + "n1 RSTACK 0 2 port=23 \n n1 SYNACK 5 2 port=23":           1,
		"client1 SYN 1 \n n1 SYNACK 9 9":                                   0,
		"client1 SYN 1 \n client1 SYN 7 \n n1 SYNACK 5 2 \n n1 SYNACK 8 8": 2,
	} {
		if got := judgeStory(text).Verdict().Counts.AnsweredSYNs; got != want {
			t.Errorf("%d answered, want %d:\n%s", got, want, text)
		}
	}
}

// SYNs that come while owners change, or just before, are counted apart.
func TestUnsettledSYNs(t *testing.T) {
	for text, want := range map[string][4]uint64{
		"client1 SYN 1 \n lan moving +200ms":                                   {1, 0, 1, 0},
		"client1 SYN 1 \n lan moving +300ms":                                   {1, 0, 0, 0},
		"client1 SYN 1 \n n1 SYNACK 5 2 \n lan moving":                         {1, 1, 0, 0},
		"client1 SYN 1 \n lan moving \n lan moving \n n1 SYNACK 5 2":           {1, 1, 1, 1},
		"lan moving \n client1 SYN 1 \n lan settled \n client1 SYN 1 cport=99": {2, 0, 1, 0},
	} {
		c := judgeStory(text).Verdict().Counts
		if got := [4]uint64{c.SYNs, c.AnsweredSYNs, c.UnsettledSYNs, c.AnsweredUnsettledSYNs}; got != want {
			t.Errorf("%d, want %d:\n%s", got, want, text)
		}
	}
}

// Losses make the verdict void.
func TestLostFrames(t *testing.T) {
	v := judgeStory(handshake).Verdict()
	v.Lost = 3
	if v.Held() || v.Err() == nil || !strings.Contains(v.Err().Error(), "lost 3 frames") {
		t.Errorf("held %v, %v", v.Held(), v.Err())
	}
}

func FuzzJudge(f *testing.F) {
	for _, c := range breachStories() {
		var all []byte
		for _, t := range tell(c.text) {
			all = append(append(all, byte(len(t.capture.Data))), t.capture.Data...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		j := newTestJudge()
		now := time.Duration(0)
		for i := 0; len(b) > 0; i++ {
			n := min(int(b[0]), len(b)-1)
			c := Capture{Data: b[1 : 1+n], Bytes: n + i%3, Vouched: i%5 == 0, Tagged: i%7 == 6}
			now += time.Duration(i) * time.Second
			j.Frame(now, Sender{Host: fmt.Sprint("n", i%3), Node: i%2 == 1}, &c)
			b = b[1+n:]
		}
		v := j.Verdict()
		if total := len(v.Breaches); (total == 0) != (len(v.Rules) == 0) {
			t.Errorf("%d breaches, rules %v", total, v.Rules)
		}
		for _, broken := range v.Breaches {
			for _, s := range broken.Frames {
				_ = s.String()
			}
		}
	})
}
