package health

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FullWeight is the weight of a node that nothing holds back.
const FullWeight = 100

// agentPatience is for how many intervals an agent's last word stands when it
// says nothing or nonsense.
const agentPatience = 3

// maxAgentBytes bounds an agent's answer, of which the first line counts.
const maxAgentBytes = 4096

var errAgentEmpty = errors.New("the agent said nothing")

// ParseWeight reads an agent's answer: a number from 0 to 100, with or without
// a percent sign, or words of HAProxy's agent-check (configuration manual,
// section 5.2, agent-check): up and ready are 100 when no number stands beside
// them; down, failed, fail, stopped, drain and maint are 0. The first line
// counts, up to a #; maxconn: is left to HAProxy.
func ParseWeight(answer string) (int, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(answer), "\n")
	line, _, _ = strings.Cut(line, "#")
	weight, said, down := FullWeight, false, false
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '\r' })
	for _, w := range words {
		switch lower := strings.ToLower(w); lower {
		case "up", "ready":
			said = true
		case "down", "failed", "fail", "stopped", "drain", "maint":
			said, down = true, true
		default:
			if strings.HasPrefix(lower, "maxconn:") {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSuffix(w, "%"), 10, 8)
			if err != nil || n > FullWeight {
				return 0, fmt.Errorf("the agent said %q; a number from 0 to %d is understood, or up, ready, down, drain", oneLine(w), FullWeight)
			}
			weight, said = int(n), true
		}
	}
	switch {
	case !said:
		return 0, errAgentEmpty
	case down:
		return 0, nil
	}
	return weight, nil
}

// Trust says how far an agent's weight is its own word.
type Trust uint8

const (
	Heard   Trust = iota // the last answer was usable
	Stands               // it was not, and the last usable one stands
	GivenUp              // there was none for agentPatience intervals: FullWeight
)

// Agent is the judgement about one source of weight, a program or a file. It is
// pure.
type Agent struct {
	Schedule
	weight int
	trust  Trust
	lost   time.Duration // when the first answer was missed, unless Heard
}

// NewAgent returns an Agent that is asked every interval. Before its first
// answer it weighs FullWeight.
func NewAgent(interval, first time.Duration) *Agent {
	return &Agent{Schedule: Schedule{interval: interval, due: first}, weight: FullWeight}
}

// Trust says how far the weight is the agent's own word.
func (a *Agent) Trust() Trust { return a.trust }

// Step takes an answer, or the reason why there is none, and returns the
// weight. An error says what is wrong with the answer: the last weight then
// stands for agentPatience intervals after the first miss, after which it is
// FullWeight, for a broken agent must not take a node out.
func (a *Agent) Step(now time.Duration, text string, failed error) (int, error) {
	a.end()
	weight, err := 0, failed
	if err == nil {
		weight, err = ParseWeight(text)
	}
	if err == nil {
		a.weight, a.trust = weight, Heard
		return weight, nil
	}
	if a.trust == Heard {
		a.trust, a.lost = Stands, now
	}
	if now-a.lost >= agentPatience*a.interval {
		a.weight, a.trust = FullWeight, GivenUp
	}
	return a.weight, err
}
