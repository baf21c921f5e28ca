package config

import (
	"fmt"
	"strings"
	"testing"
)

const twoServices = good + "[[service]]\nname = \"web\"\nlisten = \"10.77.0.2:80\"\nbackend = \"127.0.0.1:80\"\n"

// Each node that a service's pins name has one bucket, in the order of the names, and
// the longest prefix is first.
func TestPins(t *testing.T) {
	c, err := Parse("f", []byte(twoServices+`
[[pin]]
node = "unix2"
clients = ["198.51.100.0/24", "192.0.2.7"]
[[pin]]
node = "10.77.0.11"
clients = ["198.51.0.0/16"]
services = ["ssh"]
[[pin]]
node = "unix1"
clients = ["198.51.100.128/25", "2001:db8::/32"]
services = ["web"]
`), "h")
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{
		"ssh": `[{192.0.2.7/32 1} {198.51.100.0/24 1} {198.51.0.0/16 0}] [10.77.0.11 unix2]`,
		"web": `[{192.0.2.7/32 1} {2001:db8::/32 0} {198.51.100.128/25 0} {198.51.100.0/24 1}] [unix1 unix2]`,
	} {
		pins, homes := c.PinsOf(service)
		if got := fmt.Sprint(pins, " ", homes); got != want {
			t.Errorf("%s: %s, want %s", service, got, want)
		}
	}
	if pins, homes := parsed(t, "", "").PinsOf("ssh"); pins != nil || homes != nil {
		t.Errorf("without pins: %v, %v", pins, homes)
	}
}

func TestFaultsOfPins(t *testing.T) {
	var many []string
	for i := range MaxPins + 1 {
		many = append(many, fmt.Sprintf("\"10.0.0.%d\"", i))
	}
	for write, want := range map[string]string{
		`clients = ["10.0.0.0/8"]`:                                      `pin[0].node: is missing; write one, such as "unix1"`,
		`node = "unix1"`:                                                `pin[0].clients: there are none; write a list such as ["198.51.100.0/24"]`,
		"node = \"a b\"\nclients = [\"10.0.0.1\"]":                      `pin[0].node: "a b" is no name of a node; write one, such as "unix1", or one of the peers' addresses`,
		"node = \"10.77.0.99\"\nclients = [\"10.0.0.1\"]":               `pin[0].node: 10.77.0.99 is not in cluster.peers; write the name or the address of one of them`,
		"node = \"u\"\nclients = [\"10.0.0.1\"]\nservices = [\"smtp\"]": `pin[0].services[0]: there is no service "smtp"; write the name of a [[service]]`,
		"node = \"u\"\nclients = [\"10.0.0.1\"]\n[[pin]]\nnode = \"v\"\nclients = [\"10.0.0.1\"]\nservices = [\"ssh\"]": `pin[1].clients[0]: 10.0.0.1/32 has a pin already; write it in one of them`,
		"node = \"u\"\nclients = [" + strings.Join(many, ", ") + "]":                                                    `pin[0].clients: with these the pins have 65 prefixes, of 64 that are possible; write fewer`,
	} {
		_, err := Parse("f", []byte(twoServices+"[[pin]]\n"+write+"\n"), "h")
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s\nsays %v\nwant %s", write, err, want)
		}
	}
	_, err := Parse("f", []byte(good+"hash = \"xt_cluster\"\ntotal_nodes = 2\n[[pin]]\nnode = \"u\"\nclients = [\"10.0.0.1\"]\n"), "h")
	if err == nil || !strings.Contains(err.Error(), `pin[0]: service "ssh" is shared by hash = "xt_cluster"`) {
		t.Errorf("beside another system's hash: %v", err)
	}
	// A prefix may have a pin for each of two services.
	if _, err := Parse("f", []byte(twoServices+"[[pin]]\nnode = \"u\"\nclients = [\"10.0.0.1\"]\nservices = [\"web\"]\n[[pin]]\nnode = \"v\"\nclients = [\"10.0.0.1\"]\nservices = [\"ssh\"]\n"), "h"); err != nil {
		t.Error(err)
	}
}
