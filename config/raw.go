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
	Access  rawAccess    `toml:"access"`
	VIP     []rawVIP     `toml:"vip"`
	Service []rawService `toml:"service"`
	Pin     []rawPin     `toml:"pin"`
}

type rawCluster struct {
	Name         *string   `toml:"name"`
	Interface    *string   `toml:"interface"`
	KeyFile      *string   `toml:"key_file"`
	OtherKeyFile *string   `toml:"other_key_file"`
	Peers        []rawPeer `toml:"peers"`
	ControlPort  *int64    `toml:"control_port"`
	TwoNodes     *string   `toml:"two_nodes"`
	Witness      *string   `toml:"witness"`
	Timing       *string   `toml:"timing"`
}

// rawPeer may be written as a table, or as its address alone.
type rawPeer struct {
	Address *string `toml:"address" alone:"yes"`
	Control *string `toml:"control"`
}

type rawNode struct {
	Name          *string  `toml:"name"`
	StateDir      *string  `toml:"state_dir"`
	User          *string  `toml:"user"`
	StopTimeout   *string  `toml:"stop_timeout"`
	Weight        *int64   `toml:"weight"`
	Voter         *bool    `toml:"voter"`
	Agent         *string  `toml:"agent"`
	AgentInterval *string  `toml:"agent_interval"`
	Ping          []string `toml:"ping"`
	GatewayCheck  *bool    `toml:"gateway_check"`
	MemoryMiB     *int64   `toml:"memory_mib"`
}

type rawAdmin struct {
	Socket *string `toml:"socket"`
	Listen *string `toml:"listen"`
	Token  *string `toml:"token_file"`
}

// rawAccess is for all services.
type rawAccess struct {
	Allow     []string `toml:"allow"`
	Deny      []string `toml:"deny"`
	AllowFile *string  `toml:"allow_file"`
	DenyFile  *string  `toml:"deny_file"`
}

type rawVIP struct {
	Address   *string `toml:"address"`
	MACMode   *string `toml:"mac_mode"`
	MAC       *string `toml:"mac"`
	Interface *string `toml:"interface"`
	VLAN      *int64  `toml:"vlan"`
}

type rawService struct {
	Name     *string `toml:"name"`
	Listen   *string `toml:"listen"`
	Backend  *string `toml:"backend"`
	Affinity *string `toml:"affinity"`
	Path     *string `toml:"path"`
	Source   *string `toml:"source"`
	Idle     *string `toml:"idle_timeout"`
	Check    *string `toml:"check"`
	Interval *string `toml:"check_interval"`
	Timeout  *string `toml:"check_timeout"`
	Rise     *int64  `toml:"check_rise"`
	Fall     *int64  `toml:"check_fall"`
	HoldDown *string `toml:"hold_down"`

	Hash       *string            `toml:"hash"`
	HashSeed   *int64             `toml:"hash_seed"`
	TotalNodes *int64             `toml:"total_nodes"`
	Local      map[string][]int64 `toml:"local"`
	Allow      []string           `toml:"allow"`
	Deny       []string           `toml:"deny"`
	AllowFile  *string            `toml:"allow_file"`
	DenyFile   *string            `toml:"deny_file"`
	DenyAction *string            `toml:"deny_action"`
	Limit      *rawLimit          `toml:"limit"`
}

type rawPin struct {
	Clients  []string `toml:"clients"`
	Node     *string  `toml:"node"`
	Services []string `toml:"services"`
}

type rawLimit struct {
	New          *int64   `toml:"new"`
	Per          *string  `toml:"per"`
	Flows        *int64   `toml:"flows"`
	FlowsPerNode *int64   `toml:"flows_per_node"`
	IPv4Prefix   *int64   `toml:"ipv4_prefix"`
	IPv6Prefix   *int64   `toml:"ipv6_prefix"`
	Action       *string  `toml:"action"`
	Exempt       []string `toml:"exempt"`
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
func or[T any](written *T, byDefault T) T {
	if written == nil {
		return byDefault
	}
	return *written
}

// alone reports whether a text may stand for a whole table, as its first key.
func alone(table reflect.Type) bool {
	return table.Kind() == reflect.Struct && table.Field(0).Tag.Get("alone") != ""
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
