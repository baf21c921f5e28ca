package config

// The raw structs mirror the file.

type rawFile struct {
	Cluster rawCluster   `toml:"cluster"`
	Node    rawNode      `toml:"node"`
	Admin   rawAdmin     `toml:"admin"`
	VIP     []rawVIP     `toml:"vip"`
	Service []rawService `toml:"service"`
}

type rawCluster struct {
	Name      string   `toml:"name"`
	Interface string   `toml:"interface"`
	KeyFile   string   `toml:"key_file"`
	Peers     []string `toml:"peers"`
	TwoNodes  string   `toml:"two_nodes"`
	Witness   string   `toml:"witness"`
	Timing    string   `toml:"timing"`
}

type rawNode struct {
	Name        string `toml:"name"`
	StateDir    string `toml:"state_dir"`
	StopTimeout string `toml:"stop_timeout"`
	Weight      *int   `toml:"weight"`
	Voter       *bool  `toml:"voter"`
}

type rawAdmin struct {
	Socket string `toml:"socket"`
	Listen string `toml:"listen"`
}

type rawVIP struct {
	Address string `toml:"address"`
	MACMode string `toml:"mac_mode"`
	MAC     string `toml:"mac"`
}

type rawService struct {
	Name     string `toml:"name"`
	Listen   string `toml:"listen"`
	Backend  string `toml:"backend"`
	Affinity string `toml:"affinity"`
	Source   string `toml:"source"`
	Check    string `toml:"check"`
}

// knownKeys are the keys of each table, for suggestions.
func knownKeys() map[string][]string {
	return map[string][]string{
		"":        {"cluster", "node", "admin", "vip", "service"},
		"cluster": {"name", "interface", "key_file", "peers", "two_nodes", "witness", "timing"},
		"node":    {"name", "state_dir", "stop_timeout", "weight", "voter"},
		"admin":   {"socket", "listen"},
		"vip":     {"address", "mac_mode", "mac"},
		"service": {"name", "listen", "backend", "affinity", "source", "check"},
	}
}
