package bench

import (
	"bytes"
	"embed"
	"os"
	"path/filepath"
	"text/template"

	"onevoice/lab"
)

// peerFiles are the settings of the peers and of the service behind them, as
// they are run.
//
//go:embed peers
var peerFiles embed.FS

// ownFiles are the forms of the page and the picture.
//
//go:embed page.html chart.svg
var ownFiles embed.FS

// runDir holds what the programs of a run write.
func runDir() string { return filepath.Join(lab.RunDir, "bench") }

// peerFile is a file of peers/ with what it leaves open filled in.
func peerFile(name string, values any) (string, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(peerFiles, "peers/"+name)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, values)
	return out.String(), err
}

// writePeerFile writes a file of peers/ for its program, and tells where.
func writePeerFile(name string) (string, error) {
	text, err := peerFiles.ReadFile("peers/" + name)
	if err != nil {
		return "", err
	}
	at := filepath.Join(runDir(), name)
	return at, os.WriteFile(at, text, 0o644)
}
