package web

import (
	"encoding/base64"
	"flag"
	"os"
	"strings"
	"testing"
)

// Where TestPicture takes the page from, and where it puts its picture.
var (
	pictureOf    = flag.String("picture-of", "", "the address of a page that TestPicture takes a picture of")
	pictureToken = flag.String("picture-token", "", "the file with its token")
	pictureFile  = flag.String("picture", "", "the file for the picture")
)

// maxPictureBytes bounds a picture that the documentation has.
const maxPictureBytes = 200 << 10

// TestPicture takes a picture of a real page: docs/picture.sh.
func TestPicture(t *testing.T) {
	if *pictureOf == "" {
		t.Skip("takes a picture of the page that -picture-of names: make picture")
	}
	token, err := os.ReadFile(*pictureToken)
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1100, "height": 790, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.call("Emulation.setScrollbarsHidden", map[string]any{"hidden": true}, nil)
	b.call("Page.navigate", map[string]any{"url": *pictureOf}, nil)
	b.run(`await until(() => !document.getElementById('login').hidden);
		document.getElementById('token').value = '` + strings.TrimSpace(string(token)) + `'; document.querySelector('#login button').click();
		await until(() => document.querySelectorAll('#ring path').length === 256);
		await new Promise(r => setTimeout(r, 3000)); document.activeElement.blur();`)
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(*pictureFile, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > maxPictureBytes {
		t.Errorf("the picture has %d bytes, want at most %d", len(data), maxPictureBytes)
	}
}
