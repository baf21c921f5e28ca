package migrate

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"onevoice/config"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the golden files")
	os.Exit(m.Run())
}

func input(t testing.TB, name, node string) Input {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return Input{Name: name, Node: node, Data: data}
}

// together is what inputs make: the file, what was left, and an error.
func together(inputs []Input, o Options) string {
	var shares []Shared
	var left []Left
	for _, in := range inputs {
		s, l, err := Parse(in)
		if err != nil {
			return fmt.Sprintf("error: %v\n", err)
		}
		shares, left = append(shares, s...), append(left, l...)
	}
	text, more, err := Write(shares, o)
	for _, l := range append(left, more...) {
		text += fmt.Sprintf("--- %s\n", l)
	}
	if err != nil {
		text += fmt.Sprintf("error: %v\n", err)
	}
	return text
}

// Each input of testdata is read as on a host called alpha; what comes of it stands
// beside it.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		got := together([]Input{input(t, name, "alpha")}, Options{})
		golden := strings.TrimSuffix(file, ".in") + ".out"
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs:\n%s", golden, got)
		}
	}
}

// What the files mean, said apart from the goldens: address, hash, seed, nodes, whose.
func TestWhatIsCarriedOver(t *testing.T) {
	for name, want := range map[string][]string{
		"clusterip.in":  {"10.31.3.236:22 clusterip source-ip 4711 3 [node1 alpha node3]", "10.31.3.237:443 clusterip source-ip-port-dest-port 0 2 [alpha node2]"},
		"xtcluster.in":  {"10.77.0.2:22 xt_cluster source-ip 3735928559 4 [alpha node2 alpha node4]"},
		"xtcluster6.in": {"[2001:db8:77::2]:22 xt_cluster source-ip 7 2 [node1 alpha]"},
		"netmask.in":    {"10.77.0.2:22 netmask source-ip 0 4 [node0 alpha node2 node3]", "10.77.0.2:80 netmask source-ip 0 4 [node0 alpha node2 node3]"},
		"nft.in": {"10.77.0.2:22 nft source-ip 51966 4 [node0 alpha node2 alpha]", "10.77.0.2:443 nft source-ip 51966 4 [node0 alpha node2 alpha]",
			"10.77.0.3:53 nft source-ip 1 3 [node0 alpha node2]", "10.77.0.4:80 nft source-ip 1 4 [alpha node1 node2 node3]",
			"10.77.0.5:80 netmask source-ip 0 2 [node0 alpha]", "[2001:db8::5]:22 nft source-ip 1 4 [node0 node1 alpha node3]"},
		"crm.in":     {"192.0.2.120:22 clusterip source-ip 0 3 [alpha beta gamma]"},
		"pcs.in":     {"192.0.2.120:22 clusterip source-ip 0 2 [pcmk-1 pcmk-2]"},
		"pcs-new.in": {"192.0.2.120:22 clusterip source-ip-port 0 4 [node1 node2 node3 node4]"},
		"cib.in":     {"192.0.2.120:22 clusterip source-ip-port 0 2 [alpha beta]"},
	} {
		s, _, err := Parse(input(t, name, "alpha"))
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := Write(s, Options{Peers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := config.Parse(name, []byte(text), "alpha")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range c.Services {
			got = append(got, fmt.Sprintf("%v %s %s %d %d %v", v.Listen, v.Sharing.Hash, v.Affinity, v.Sharing.Seed, v.Sharing.Nodes, v.Sharing.Homes))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s means\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// The rules of all hosts give all numbers their names; and they have to agree.
func TestTheRulesOfAllHosts(t *testing.T) {
	rules := func(node, number, seed, more string) Input {
		return Input{Name: node + ".rules", Node: node, Data: []byte("*filter\n-A INPUT -d 10.77.0.2/32 -i eth0 -p tcp --dport 22 -j CLUSTERIP --new --hashmode sourceip --clustermac 01:00:5e:4d:00:02 --total-nodes 3 --local-node " +
			number + " --hash-init " + seed + "\n" + more + "COMMIT\n")}
	}
	o := Options{Cluster: "campus", VIP: netip.MustParsePrefix("10.77.0.2/25"), Peers: []netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")}, Ports: []Port{{"tcp", 22}, {"tcp", 8022}}}
	got := together([]Input{rules("u1", "1", "9", ""), rules("u2", "2", "9", ""), rules("u3", "3", "9", "")}, o)
	for _, want := range []string{"local       = { u1 = [1], u2 = [2], u3 = [3] }", "address = \"10.77.0.2/25\"", "name        = \"tcp-8022\"", `peers     = ["10.77.0.11", "10.77.0.12"]`, "two_nodes = \"preferred\"", "name      = \"campus\""} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Count(got, "---") != 1 || !strings.Contains(got, "a witness on a third box is better") {
		t.Errorf("there was nothing to guess:\n%s", got)
	}
	for _, c := range []struct {
		other Input
		says  string
	}{
		{rules("u2", "2", "8", ""), "10.77.0.2 is shared in two ways: u1.rules:2 has clusterip of 3 nodes, seed 9, source-ip, and u2.rules:2 has"},
		{rules("u2", "1", "9", ""), "number 1 of 10.77.0.2 is u2's, and u1's as well"},
		{rules("u2", "4", "9", ""), "u2.rules:2: 4 is no number of 3 nodes"},
		{Input{Name: "u2.rules", Data: []byte(strings.Replace(string(rules("u2", "2", "9", "").Data), "4d:00:02", "4d:00:03", 1))}, "10.77.0.2 has two MACs"},
	} {
		if got := together([]Input{rules("u1", "1", "9", ""), c.other}, o); !strings.Contains(got, "error: ") || !strings.Contains(got, c.says) {
			t.Errorf("want %q:\n%s", c.says, got)
		}
	}
}

func TestWhatIsNothingOfOurs(t *testing.T) {
	for text, want := range map[string]error{
		"":                                     errNoFormat,
		"hello\nworld\n":                       errNoFormat,
		"*filter\n-A INPUT -j ACCEPT\n":        errNothing,
		"table ip x {\n}\n":                    errNothing,
		"primitive a ocf:heartbeat:Dummy\n":    errNothing,
		"<cib></cib>":                          errNothing,
		" Resource: a (class=ocf type=b)\n":    errNothing,
		"*mangle\n-A X -m cluster -j ACCEPT\n": errNothing,
	} {
		s, _, err := Parse(Input{Name: "f", Data: []byte(text)})
		if err == nil {
			_, _, err = Write(s, Options{})
		}
		if !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	if _, _, err := Parse(Input{Name: "f", Data: []byte("<cib><a>")}); err == nil || !strings.Contains(err.Error(), "no XML that can be read") {
		t.Error(err)
	}
	if _, _, err := Parse(Input{Name: "f", Data: make([]byte, MaxInputBytes+1)}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
	many := "*filter\n" + strings.Repeat("-A INPUT -d 10.0.0.1/32 -j CLUSTERIP\n", maxLeft+5)
	if _, left, err := Parse(Input{Name: "f", Data: []byte(many)}); err != nil || len(left) != maxLeft+1 || left[maxLeft].Why != "and 5 lines more" {
		t.Errorf("%d are told, %v", len(left), err)
	}
}

// Whatever is read: nothing panics, and a file that is written is one that onevoice
// takes.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.in")
	for _, file := range files {
		f.Add(input(f, filepath.Base(file), "").Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		shares, _, err := Parse(Input{Name: "f", Node: "alpha", Data: data})
		if err != nil {
			return
		}
		peer := netip.MustParseAddr("198.18.7.7")
		text, _, err := Write(shares, Options{Peers: []netip.Addr{peer}, VIP: netip.MustParsePrefix("10.77.0.2/24")})
		if err != nil {
			return
		}
		if _, err := config.Parse("f", []byte(text), "alpha"); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
