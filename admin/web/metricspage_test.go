package web

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"onevoice/admin"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// metricsPage is docs/metrics.md: every metric that the collector can tell.
func metricsPage(t *testing.T) string {
	t.Helper()
	d := &daemon{now: epoch()}
	s, err := d.status(admin.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + `Each node tells its own at ` + "`/metrics`" + ` of ` + "`[admin] listen`" + `, in Prometheus' text format:
[the page](page.md) says how to turn it on and how to scrape it. This list is made from
the program (` + "`make docs`" + `). Counters begin anew with the daemon. A metric of nodes or
tables is what *this* node knows; ask all nodes, and compare.

Alerts are in ` + "`packaging/prometheus-alerts.yml`" + `, a dashboard for Grafana in
` + "`packaging/grafana-dashboard.json`" + `; packages have both in ` + "`/usr/share/doc/onevoice`" + `.
What each verdict means: [verdicts](verdicts.md).

| metric | type | labels | what it tells |
|---|---|---|---|
`)
	for _, f := range (collector{s}).families() {
		kind := "gauge"
		if f.kind == prometheus.CounterValue {
			kind = "counter"
		}
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `onevoice_%s` | %s | %s | %s |\n", f.name, kind, labels, f.help)
	}
	return b.String()
}

// Every metric is in docs/metrics.md, with its type, its labels and what it tells.
func TestMetricsPage(t *testing.T) {
	const path = "../../docs/metrics.md"
	page := metricsPage(t)
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, _ := os.ReadFile(path); string(old) != page {
		t.Error("docs/metrics.md is not what the program tells; `make docs` writes it anew")
	}
}
