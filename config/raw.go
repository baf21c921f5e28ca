package config

import (
	"reflect"
	"slices"
	"strings"
)

// The raw structs mirror the file: a key that is not written is nil. Their tags
// are the only list of the keys there are.

type rawFile struct {
	Cluster rawCluster   `toml:"cluster"`
	Node    rawNode      `toml:"node"`
	Admin   rawAdmin     `toml:"admin"`
	VIP     []rawVIP     `toml:"vip"`
	Service []rawService `toml:"service"`
}

type rawCluster struct {
	Name      *string  `toml:"name"`
	Interface *string  `toml:"interface"`
	KeyFile   *string  `toml:"key_file"`
	Peers     []string `toml:"peers"`
	TwoNodes  *string  `toml:"two_nodes"`
	Witness   *string  `toml:"witness"`
	Timing    *string  `toml:"timing"`
}

type rawNode struct {
	Name        *string `toml:"name"`
	StateDir    *string `toml:"state_dir"`
	StopTimeout *string `toml:"stop_timeout"`
	Weight      *int64  `toml:"weight"`
	Voter       *bool   `toml:"voter"`
}

type rawAdmin struct {
	Socket *string `toml:"socket"`
	Listen *string `toml:"listen"`
}

type rawVIP struct {
	Address *string `toml:"address"`
	MACMode *string `toml:"mac_mode"`
	MAC     *string `toml:"mac"`
}

type rawService struct {
	Name     *string `toml:"name"`
	Listen   *string `toml:"listen"`
	Backend  *string `toml:"backend"`
	Affinity *string `toml:"affinity"`
	Source   *string `toml:"source"`
	Check    *string `toml:"check"`
}

// keysOf are the keys of a raw struct, as the file writes them.
func keysOf(table reflect.Type) []string {
	var out []string
	for i := range table.NumField() {
		out = append(out, table.Field(i).Tag.Get("toml"))
	}
	return out
}

// or is what is written, or else the default.
func or(written *string, byDefault string) string {
	if written == nil {
		return byDefault
	}
	return *written
}

// nearest is the known key that is most like a wrong one, or "".
func nearest(wrong string, known []string) string {
	best, distance := "", min(len(wrong), 2*maxNameBytes)/3+2
	if len(wrong) > 2*maxNameBytes {
		return ""
	}
	for _, k := range known {
		if d := editDistance(k, strings.ToLower(wrong)); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], slices.Min([]int{row[j+1] + 1, row[j] + 1, diagonal + cost})
		}
	}
	return row[len(b)]
}
