package lab

import (
	"fmt"
	"io"
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

// printedBreaches is how many breaches are told in full.
const printedBreaches = 5

// Print tells the breaches with their frames.
func (v *Verdict) Print(out io.Writer) {
	for _, rule := range slices.Sorted(maps.Keys(v.Rules)) {
		fmt.Fprintf(out, "  broken %d times: %s\n", v.Rules[rule], rule)
	}
	for i, b := range v.Breaches {
		if i == printedBreaches {
			fmt.Fprintf(out, "  and %d more\n", len(v.Breaches)-i)
			break
		}
		fmt.Fprintf(out, "  %s: %s\n", b.Rule, b.Text)
		for _, s := range b.Frames {
			fmt.Fprintf(out, "    %s\n", s)
		}
	}
}
