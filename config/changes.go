package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// Change is a key of the file that is not as it was.
type Change struct {
	// Key is as `cluster.timing`, or `service ssh.backend`.
	Key string `json:"key"`
	// Before and After are the values as JSON, "" where the key is not in the file.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// String is the change in words.
func (c Change) String() string {
	switch {
	case c.Before == "":
		return fmt.Sprintf("%s is new: %s", c.Key, c.After)
	case c.After == "":
		return fmt.Sprintf("%s is gone; it was %s", c.Key, c.Before)
	}
	return fmt.Sprintf("%s is %s, was %s", c.Key, c.After, c.Before)
}

// Changes are the differences of two files that Parse takes, by key. What a key that is
// not written means is left out.
func Changes(before, after []byte) ([]Change, error) {
	a, err := flatten(before)
	if err != nil {
		return nil, err
	}
	b, err := flatten(after)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []Change
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if a[key] != b[key] {
			out = append(out, Change{key, a[key], b[key]})
		}
	}
	return out, nil
}

// flatten is every value of a file by its key, as JSON. Tables in a list are told apart
// by what names them.
func flatten(data []byte) (map[string]string, error) {
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for key, v := range values {
		switch v := v.(type) {
		case map[string]any:
			flattenTable(out, key, v)
		case []any:
			for i, one := range v {
				if t, ok := one.(map[string]any); ok {
					flattenTable(out, nameOf(key, i, t), t)
				}
			}
		}
	}
	return out, nil
}

// nameOf is a table of a list by its name, its address, or its place.
func nameOf(key string, i int, t map[string]any) string {
	for _, by := range []string{"name", "address"} {
		if s, ok := t[by].(string); ok {
			return key + " " + s
		}
	}
	return fmt.Sprintf("%s[%d]", key, i)
}

func flattenTable(out map[string]string, under string, t map[string]any) {
	for key, v := range t {
		text, err := json.Marshal(v)
		if err != nil {
			text = fmt.Append(nil, v)
		}
		out[under+"."+key] = string(text)
	}
}

// Continues is why a process with one file cannot be followed by one with another and
// its sessions go on, nil if it can.
func (c *Config) Continues(before *Config) error {
	const mend = "stop onevoice here and start it again for that; its sessions end"
	const together = "write it on all nodes, and then stop onevoice on each and start it again; sessions end"
	switch {
	case c.Cluster.Name != before.Cluster.Name:
		return fmt.Errorf("cluster.name is %q and was %q, which is another cluster; %s", c.Cluster.Name, before.Cluster.Name, mend)
	case c.Node.StateDir != before.Node.StateDir:
		return fmt.Errorf("node.state_dir is %q and was %q, and what this node has promised is there; %s", c.Node.StateDir, before.Node.StateDir, mend)
	case c.Admin.Socket != before.Admin.Socket:
		return fmt.Errorf("admin.socket is %q and was %q, where its answer is waited for; %s", c.Admin.Socket, before.Admin.Socket, mend)
	}
	if now, was := c.Cluster.ControlPort, before.Cluster.ControlPort; now != was && len(c.Cluster.Peers) > 1 {
		return fmt.Errorf("cluster.control_port is %d and was %d, where the other nodes are heard; %s", now, was, together)
	}
	for i := range before.VIPs {
		if err := before.VIPs[i].continuedBy(c); err != nil {
			return fmt.Errorf("%w, so that nodes with the one and with the other do not hear each other; %s", err, together)
		}
	}
	// By these addresses the workers of the process before are found.
	for _, u := range before.Uplinks() {
		first := before.On(u).VIPs[0].Address.Addr()
		at := slices.IndexFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == first })
		if at < 0 || c.On(c.VIPs[at].Uplink).VIPs[0].Address.Addr() != first {
			return fmt.Errorf("VIP %s has to be the first of an interface, as it was, or its sessions would not be found again; %s", first, mend)
		}
	}
	if first := before.VIPs[0].Address.Addr(); c.VIPs[0].Address.Addr() != first {
		return fmt.Errorf("VIP %s has to be the first in the file, as it was, for this host's routes go by it; %s", first, mend)
	}
	return nil
}

// continuedBy is what a file says otherwise of how frames for a VIP are sent, nil for
// nothing.
func (v *VIP) continuedBy(c *Config) error {
	at := slices.IndexFunc(c.VIPs, func(o VIP) bool { return o.Address.Addr() == v.Address.Addr() })
	if at < 0 {
		return nil
	}
	now := &c.VIPs[at]
	switch {
	case now.MACMode != v.MACMode:
		return fmt.Errorf("mac_mode of VIP %s is %q and was %q", v.Address.Addr(), now.MACMode, v.MACMode)
	case now.MAC.String() != v.MAC.String():
		return fmt.Errorf("the MAC of VIP %s is %s and was %s", v.Address.Addr(), now.MAC, v.MAC)
	case now.Uplink != v.Uplink:
		return fmt.Errorf("VIP %s is on %s and was on %s", v.Address.Addr(), now.Uplink, v.Uplink)
	}
	return nil
}
