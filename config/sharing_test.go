package config

import (
	"fmt"
	"strings"
	"testing"
)

// shared is the good file whose service is shared in another way.
func shared(t *testing.T, lines ...string) (*Config, error) {
	t.Helper()
	return Parse("f", []byte(edited(t, good, `name = "ssh"`, `name = "ssh"`+"\n"+strings.Join(lines, "\n"))), "h")
}

func TestSharing(t *testing.T) {
	for _, c := range []struct{ write, want string }{
		{``, `{Hash: Seed:0 Nodes:0 Homes:[]} from 0`},
		{`hash = "siphash"`, `{Hash: Seed:0 Nodes:0 Homes:[]} from 0`},
		{"hash = \"clusterip\"\ntotal_nodes = 16\nhash_seed = 4294967295\naffinity = \"source-ip-port\"", `{Hash:clusterip Seed:4294967295 Nodes:16 Homes:[]} from 1`},
		{"hash = \"xt_cluster\"\ntotal_nodes = 3\nlocal = { unix2 = [2, 1], unix1 = [3] }", `{Hash:xt_cluster Seed:0 Nodes:3 Homes:[unix2 unix2 unix1]} from 1`},
		{"hash = \"nft\"\ntotal_nodes = 256\nhash_seed = 0", `{Hash:nft Seed:0 Nodes:256 Homes:[]} from 0`},
		{"hash = \"netmask\"\ntotal_nodes = 2\nlocal.a = [0]\nlocal.b = [1]", `{Hash:netmask Seed:0 Nodes:2 Homes:[a b]} from 0`},
		{"hash = \"carp\"\ntotal_nodes = 32", `{Hash:carp Seed:0 Nodes:32 Homes:[]} from 0`},
	} {
		p, err := shared(t, c.write)
		if err != nil {
			t.Errorf("%s: %v", c.write, err)
			continue
		}
		s := &p.Services[0].Sharing
		if got := fmt.Sprintf("%+v from %d", *s, s.First()); got != c.want {
			t.Errorf("%s\nmeans %s\nwant  %s", c.write, got, c.want)
		}
	}
}

// All errors are wanted, and no others, without their line.
func TestImpossibleSharing(t *testing.T) {
	const alone = `goes with the hash of another system; write that beside it, such as hash = "xt_cluster", or leave it out`
	for write, want := range map[string]string{
		`hash = "md5"`: `service[0].hash: "md5" is not a hash; write siphash (our own), clusterip, xt_cluster, nft, netmask or carp`,
		"hash_seed = 1\ntotal_nodes = 2\nlocal = { a = [1, 2] }": "service[0].hash_seed: " + alone + "\nservice[0].total_nodes: " + alone + "\nservice[0].local: " + alone,
		`hash = "nft"`:                                                          `service[0].total_nodes: is missing; write how many nodes share the clients by nft, ours and others', as the others' own rules say it`,
		"hash = \"clusterip\"\ntotal_nodes = 17":                                `service[0].total_nodes: 17 nodes cannot share by clusterip; write a number from 1 to 16`,
		"hash = \"xt_cluster\"\ntotal_nodes = 0":                                `service[0].total_nodes: 0 nodes cannot share by xt_cluster; write a number from 1 to 32`,
		"hash = \"netmask\"\ntotal_nodes = 6":                                   `service[0].total_nodes: 6 is no power of two, and a netmask takes whole bits of an address; write 1, 2, 4, 8 and so on, up to 256`,
		"hash = \"carp\"\ntotal_nodes = 2\nhash_seed = 0":                       `service[0].hash_seed: carp has no seed; leave it out`,
		"hash = \"nft\"\ntotal_nodes = 2\nhash_seed = -1":                       `service[0].hash_seed: -1 is no seed; write a number from 0 to 4294967295`,
		"hash = \"nft\"\ntotal_nodes = 2\nhash_seed = 4294967296":               `service[0].hash_seed: 4294967296 is no seed; write a number from 0 to 4294967295`,
		"hash = \"clusterip\"\ntotal_nodes = 2\naffinity = \"source-net\"":      `service[0].affinity: CLUSTERIP has no such hashmode; write source-ip, source-ip-port or source-ip-port-dest-port`,
		"hash = \"xt_cluster\"\ntotal_nodes = 2\naffinity = \"source-ip-port\"": `service[0].affinity: xt_cluster looks at addresses alone, and only clusterip has modes with ports; leave affinity out`,
		"hash = \"xt_cluster\"\ntotal_nodes = 2\nlocal = { a = [0], b = [1, 3], c = [] }": "service[0].local.a[0]: 0 is no node's number; xt_cluster counts from 1, so write one from 1 to 2\n" +
			"service[0].local.b[1]: 3 is no node's number; xt_cluster counts from 1, so write one from 1 to 2\n" +
			"service[0].local.c: has no number; write those that it answers for, such as [1], or leave the name out",
		"hash = \"nft\"\ntotal_nodes = 2\nlocal = { a = [0], b = [0, 1] }": `service[0].local.b[0]: 0 is a's already; write each number once`,
		"hash = \"nft\"\ntotal_nodes = 3\nlocal = { a = [0, 2] }":          `service[0].local: number 1 is nobody's, so this cluster would answer for it, and perhaps another node too; write whose it is, or leave local out where no other system's node is left`,
		"hash = \"nft\"\ntotal_nodes = 1\nlocal = { \"kernel:a\" = [0] }":  `service[0].local."kernel:a": "kernel:a" is no name of a node; write one without spaces, of at most 64 bytes, such as unix1`,
		"hash = \"nft\"\ntotal_nodes = 1\nlocal = [1]":                     `service[0].local: this is a list; write a table of names with lists of whole numbers, { unix1 = [1], unix2 = [2] }`,
		"hash = \"nft\"\ntotal_nodes = 1\nlocal = { a = 0 }":               `service[0].local.a: this is a whole number; write a list of whole numbers, such as [1, 2]`,
		"hash = \"nft\"\ntotal_nodes = 1\nlocal = { a = [\"0\"] }":         `service[0].local.a[0]: this is a text; write a whole number`,
	} {
		_, err := shared(t, write)
		if err == nil {
			t.Errorf("%s: no error", write)
			continue
		}
		if got := withoutLines(err); got != want {
			t.Errorf("%s\ngives %s\nwant  %s", write, got, want)
		}
	}
}

// withoutLines are errors without the file and line that each begins with.
func withoutLines(err error) string {
	var out []string
	for _, line := range strings.Split(err.Error(), "\n") {
		_, line, _ = strings.Cut(line, " ")
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestServicesOfAVIPAreSharedAlike(t *testing.T) {
	second := func(lines string) string {
		return "total_nodes = 2\nhash = \"nft\"\n\n[[service]]\nname = \"dns\"\nlisten = \"10.77.0.2:53\"\nbackend = \"127.0.0.1:53\"\n" + lines
	}
	end := strings.TrimSuffix(good, "\n") + "\n"
	parse := func(lines string) error {
		_, err := Parse("f", []byte(end+second(lines)), "h")
		return err
	}
	if err := parse("hash = \"nft\"\ntotal_nodes = 2\n"); err != nil {
		t.Error(err)
	}
	for _, lines := range []string{"", "hash = \"nft\"\ntotal_nodes = 3\n", "hash = \"nft\"\ntotal_nodes = 2\nhash_seed = 1\n",
		"hash = \"nft\"\ntotal_nodes = 2\nlocal = { a = [0], b = [1] }\n", "hash = \"xt_cluster\"\ntotal_nodes = 2\n"} {
		if err := parse(lines); err == nil || !strings.Contains(err.Error(), "service[1].hash: service ssh of the same VIP is shared in another way") {
			t.Errorf("%q: %v", lines, err)
		}
	}
	// Another VIP is another matter.
	if _, err := Parse("f", []byte(end+strings.Replace(second(""), "10.77.0.2:53", "10.77.0.3:53", 1)+"\n[[vip]]\naddress = \"10.77.0.3/24\"\n"), "h"); err != nil {
		t.Error(err)
	}
}

func TestHomesAreBounded(t *testing.T) {
	write := func(names int) error {
		var homes []string
		for i := range names {
			homes = append(homes, fmt.Sprintf("u%d = [%d]", i, i))
		}
		_, err := shared(t, `hash = "nft"`, fmt.Sprintf("total_nodes = %d", names), "local = { "+strings.Join(homes, ", ")+" }")
		return err
	}
	if err := write(MaxHomes); err != nil {
		t.Error(err)
	}
	if err := write(MaxHomes + 1); err == nil || !strings.Contains(err.Error(), "local names 33 nodes in all; at most 32 are possible") {
		t.Error(err)
	}
}
