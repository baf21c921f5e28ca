package web

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"onevoice/admin"
)

// The dashboard and the alerts ask for metrics that there are, with labels that they
// have.
func TestPackagingAsksForWhatThereIs(t *testing.T) {
	d := &daemon{now: epoch()}
	s, _ := d.status(admin.Wanted{})
	known := map[string]string{}
	for _, f := range (collector{s}).families() {
		known["onevoice_"+f.name] = strings.Join(append(f.labels, "job", "instance"), " ")
	}
	name := regexp.MustCompile(`\bonevoice_[a-z_]+\b`)
	selected := regexp.MustCompile(`\b(onevoice_[a-z_]+)\{([^}]*)\}`)
	label := regexp.MustCompile(`([a-z_]+)(?:=|!=)`)
	for _, file := range []string{"../../packaging/grafana-dashboard.json", "../../packaging/prometheus-alerts.yml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := name.FindAllString(string(b), -1)
		if len(used) < 10 {
			t.Errorf("%s asks for %d metrics", file, len(used))
		}
		for _, m := range used {
			if _, ok := known[m]; !ok {
				t.Errorf("%s asks for %s, which is none", file, m)
			}
		}
		for _, m := range selected.FindAllStringSubmatch(strings.ReplaceAll(string(b), `\"`, `"`), -1) {
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(" "+known[m[1]]+" ", " "+l[1]+" ") {
					t.Errorf("%s asks for %s by %s", file, m[1], l[1])
				}
			}
		}
	}
	b, _ := os.ReadFile("../../packaging/grafana-dashboard.json")
	if !json.Valid(b) {
		t.Error("the dashboard is no JSON")
	}
}

// Prometheus' own tool has nothing against the rules.
func TestPromtool(t *testing.T) {
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool here; apt-get install prometheus")
	}
	if out, err := exec.Command(path, "check", "rules", "../../packaging/prometheus-alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
