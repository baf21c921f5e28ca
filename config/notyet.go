package config

import "strings"

// notYet is a key, or some of its values, that the file may state and this
// version cannot do.
type notYet struct {
	key    string
	values func(value string) bool // nil: all
	write  string
}

// notYets is what is refused, so that nobody relies on it. Nothing is at present;
// a key that comes before what it is for has its row here.
func notYets() []notYet { return nil }

// later is what every refusal of this kind says.
const later = "is not supported by this version yet"

// refuseNotYet refuses a value of the right type by the table.
func (p *problems) refuseNotYet(key string, value any) {
	row := withoutIndexes(key)
	text, _ := value.(string)
	for _, n := range notYets() {
		switch {
		case n.key != row:
		case n.values == nil:
			p.at(key, "%s; %s", later, n.write)
		case n.values(text):
			p.at(key, "%s %s; %s", shown(text), later, n.write)
		}
	}
}

// withoutIndexes is the row of a key: "service.check" of "service[3].check".
func withoutIndexes(key string) string {
	var row strings.Builder
	for rest := key; rest != ""; {
		name, after, _ := strings.Cut(rest, "[")
		row.WriteString(name)
		_, rest, _ = strings.Cut(after, "]")
	}
	return row.String()
}
