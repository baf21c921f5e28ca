package lab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Rule is the name of a rule that was broken.
type Rule string

// The rules. Each is a sentence of what must hold of a cluster.
const (
	RuleSYNTwoNodes    Rule = "one-node-per-syn"
	RuleSYNTwoNumbers  Rule = "one-number-per-syn"
	RuleSYNACKUnasked  Rule = "syn-ack-needs-syn"
	RuleSYNACKAndReset Rule = "accept-or-refuse"
	RuleFlowTwoNodes   Rule = "one-node-per-flow"
	RuleSegmentUnasked Rule = "segment-needs-handshake"

	RuleResetUnasked  Rule = "reset-needs-segment"
	RuleResetTwice    Rule = "one-reset-per-segment"
	RuleResetForeign  Rule = "reset-only-by-holder"
	RuleResetEarly    Rule = "orphans-get-grace"
	RuleResetHalfOpen Rule = "no-reset-of-half-open"
	RuleResetServed   Rule = "no-reset-of-served-port"

	RuleAnswerUnasked  Rule = "answer-needs-question"
	RuleAnswerTwice    Rule = "one-answer-per-question"
	RuleAnswerTwoNodes Rule = "one-node-per-asker"

	RuleClaim         Rule = "vip-only-with-cluster-mac"
	RuleVIPAsks       Rule = "vip-never-asks"
	RuleImpostor      Rule = "only-nodes-speak-for-vip"
	RuleClusterSource Rule = "cluster-mac-never-source"
	RuleGroupSource   Rule = "group-mac-never-source"
	RuleMalformed     Rule = "frames-are-well-formed"
)

// Breach is a broken rule.
type Breach struct {
	Rule Rule `json:"rule"`
	// Text is a sentence about what happened, and Frames are those that made it.
	Text   string  `json:"text"`
	Frames []Sight `json:"frames"`
}

// breach notes a broken rule with the frames that made it.
func (j *Judge) breach(rule Rule, text string, frames ...Sight) {
	j.byRule[rule]++
	if len(j.breaches) < MaxBreaches {
		j.breaches = append(j.breaches, Breach{rule, text, frames})
	}
}

// Verdict is what a judge has to say at the end.
type Verdict struct {
	Counts JudgeCounts           `json:"counts"`
	Nodes  map[string]NodeCounts `json:"nodes"`
	// Rules counts the breaches by the rule broken; Breaches are the first of
	// them.
	Rules    map[Rule]int `json:"rules"`
	Breaches []Breach     `json:"breaches"`
	// Lost frames were sent but not seen, so that nothing can be said.
	Lost uint64 `json:"lost"`
}

// Verdict reports. Lost is for whoever feeds the judge to set.
func (j *Judge) Verdict() *Verdict {
	v := &Verdict{
		Counts:   j.counts,
		Nodes:    make(map[string]NodeCounts, len(j.nodes)),
		Rules:    maps.Clone(j.byRule),
		Breaches: slices.Clone(j.breaches),
	}
	for name, n := range j.nodes {
		v.Nodes[name] = *n
	}
	return v
}

// Held reports whether every frame was seen and no rule was broken.
func (v *Verdict) Held() bool { return v.Lost == 0 && v.Counts.Forgotten == 0 && len(v.Rules) == 0 }

// Err is nil when everything held, else one sentence about what did not.
func (v *Verdict) Err() error {
	total := 0
	for _, n := range v.Rules {
		total += n
	}
	switch {
	case total == 1:
		return fmt.Errorf("the sniffer saw a rule broken: %s", v.Breaches[0].Text)
	case total > 1:
		return fmt.Errorf("the sniffer saw rules broken %d times, first: %s", total, v.Breaches[0].Text)
	case v.Lost > 0:
		return fmt.Errorf("the sniffer lost %d frames, so it cannot say that everything held", v.Lost)
	case v.Counts.Forgotten > 0:
		return fmt.Errorf("the judge had to forget %d flows or questions, so it cannot say that everything held", v.Counts.Forgotten)
	}
	return nil
}

// claims are the rules in the words of the narration.
func claims() []struct {
	text  string
	rules []Rule
} {
	return []struct {
		text  string
		rules []Rule
	}{
		{"one SYN-ACK sequence number, from one node, for each SYN",
			[]Rule{RuleSYNTwoNodes, RuleSYNTwoNumbers, RuleSYNACKUnasked, RuleSYNACKAndReset}},
		{"one node speaks in each flow, for its whole life",
			[]Rule{RuleFlowTwoNodes, RuleSegmentUnasked}},
		{"no reset that nobody earned",
			[]Rule{RuleResetUnasked, RuleResetTwice, RuleResetForeign, RuleResetEarly, RuleResetHalfOpen, RuleResetServed}},
		{"never two answers to an ARP request or a ping",
			[]Rule{RuleAnswerUnasked, RuleAnswerTwice, RuleAnswerTwoNodes}},
		{"only nodes speak for the VIP, and only with the cluster MAC",
			[]Rule{RuleClaim, RuleVIPAsks, RuleImpostor}},
		{"no group MAC as a source, no wrong checksum or length",
			[]Rule{RuleClusterSource, RuleGroupSource, RuleMalformed}},
	}
}

// tell tells what was seen, and claims that everything held.
func (v *Verdict) tell(n *narrator) {
	c := &v.Counts
	n.title("What the sniffer saw: %d frames, %.0f MB", c.Frames, float64(c.Bytes)/1e6)
	n.say("%-8s %8s %8s %8s %8s %8s", "", "SYN-ACKs", "flows", "resets", "ARP", "pings")
	for _, name := range slices.SortedFunc(maps.Keys(v.Nodes), byLengthAndName) {
		k := v.Nodes[name]
		n.say("%-8s %8d %8d %8d %8d %8d", name, k.SYNACKs, k.Flows, k.Resets, k.ARPReplies, k.EchoReplies)
	}
	n.say("%-8s %8d %8s %8s %8d %8d", "asked", c.SYNs+c.RepeatedSYNs, "", "", c.ARPRequests, c.EchoRequests)
	n.claim(v.Lost == 0 && c.Forgotten == 0, "it missed nothing (%d frames lost, %d flows forgotten)", v.Lost, c.Forgotten)
	calm, answered := c.SYNs-c.UnsettledSYNs, c.AnsweredSYNs-c.AnsweredUnsettledSYNs
	n.claim(answered == calm, "%d of %d SYNs were answered (%d were sent more than once)", answered, calm, c.RepeatedSYNs)
	if c.UnsettledSYNs > 0 {
		n.say("and %d of %d that came while owners changed", c.AnsweredUnsettledSYNs, c.UnsettledSYNs)
	}
	for _, claim := range claims() {
		broken := 0
		for _, r := range claim.rules {
			broken += v.Rules[r]
		}
		n.claim(broken == 0, "%s", claim.text)
	}
	v.tellBreaches(n)
}

// toldBreaches is how many breaches of each rule are told in full.
const toldBreaches = 2

// tellBreaches tells the first breaches of each rule with their frames.
func (v *Verdict) tellBreaches(n *narrator) {
	for _, rule := range slices.Sorted(maps.Keys(v.Rules)) {
		n.say("rule %s was broken %d times:", rule, v.Rules[rule])
		told := 0
		for _, b := range v.Breaches {
			if b.Rule != rule || told == toldBreaches {
				continue
			}
			told++
			n.say("- %s", b.Text)
			for _, s := range b.Frames {
				n.say("%s", s)
			}
		}
	}
}

// byLengthAndName sorts n2 before n10.
func byLengthAndName(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
