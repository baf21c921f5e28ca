package library

import (
	"fmt"
	"strings"

	"onevoice/sim"
)

// Flag is a statement of the language as a flag of a command line.
type Flag struct {
	Name, Help string
	// Values are all that it takes, if they can be listed.
	Values []string
}

// Flags are all statements that make sense on a command line: settings, then
// steps.
func Flags() (out []Flag) {
	base := New()
	for _, k := range settings() {
		if k.show == nil {
			continue
		}
		help := k.help
		if v := k.show(base); v != "" && v != "0" {
			help += " (" + v + ")"
		}
		out = append(out, Flag{k.name, help, k.words})
	}
	for _, v := range ownVerbs() {
		out = append(out, Flag{v.name, v.help, nil})
	}
	for _, k := range sim.Kinds() {
		out = append(out, Flag{k, stepHelp(k), nil})
	}
	return out
}

// stepHelp is the help of a fault of package sim.
func stepHelp(kind string) string {
	return map[string]string{
		"kill":      "all of onevoice on a host dies: n2@5s+3s",
		"reboot":    "a host loses power, and what its disk had not synced",
		"wipe":      "a reboot with an empty disk",
		"pause":     "its control process stands still",
		"freeze":    "it stands still and its clock too",
		"drift":     "its clock goes wrong: n1=-300ppm@4s+1s",
		"fsync":     "no fsync ends",
		"break":     "its disk fails, as a full one does",
		"deafen":    "nothing reaches it",
		"mute":      "nothing leaves it",
		"unplug":    "both",
		"cut":       "between two: n1-n3@8s+2s; n1>n3 one way",
		"partition": "between groups: n1,n2|n3,n4@6s+3s",
		"loss":      "of what goes to it: n1=10%@4s+1s",
		"dup":       "the same, doubled",
		"corrupt":   "the same, with a wrong bit",
		"reorder":   "the same, held back",
	}[kind]
}

// Flags puts statements on top, as a command line gives them: settings first. An
// error names the flag.
func (s *Spec) Flags(said []string) error {
	for _, steps := range []bool{false, true} {
		for _, line := range said {
			word, value, _ := strings.Cut(line, " ")
			if isStep(word) != steps {
				continue
			}
			if err := s.Apply(word + " " + strings.TrimSpace(value)); err != nil {
				return fmt.Errorf("--%s: %w", word, err)
			}
		}
	}
	return s.Check()
}
