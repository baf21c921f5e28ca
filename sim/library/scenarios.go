package library

import "fmt"

// Load is a scenario of the library.
func Load(name string) (*Spec, error) {
	for _, t := range texts() {
		if t.name == name {
			return Parse(name, t.text)
		}
	}
	return nil, fmt.Errorf("there is no scenario %q; `onevoice sim --list` names them, and a file is named with a / or a . in it", name)
}

// Text is a scenario of the library as it is written, "" if there is none.
func Text(name string) string {
	for _, t := range texts() {
		if t.name == name {
			return t.text
		}
	}
	return ""
}

// Names are those of the library, in its order.
func Names() (out []string) {
	for _, t := range texts() {
		out = append(out, t.name)
	}
	return out
}

type named struct{ name, text string }

func texts() []named {
	var all []named
	for _, t := range [][]named{textsOfRules(), textsOfRouters(), textsOfSwitches(), textsOfNodes()} {
		all = append(all, t...)
	}
	return all
}
