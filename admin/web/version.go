package web

import (
	"bytes"
	"fmt"
	"html"
	"net/http"
	"time"
)

// pageHeader of a request is the version of the page that made it, as versionMark in
// the page's markup told it.
const pageHeader = "Onevoice-Page"

// versionMark stands in index.html for the version of the daemon that serves it.
const versionMark = "{{version}}"

// index serves the page with its version in it.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	page, err := files.ReadFile("page/index.html")
	if err != nil {
		panic(err) // a mistake of ours: the file is in the binary
	}
	page = bytes.Replace(page, []byte(versionMark), []byte(html.EscapeString(s.cfg.Version)), 1)
	http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(page))
}

// outdated is about a request of a page that an earlier daemon has served. Other
// programs do not say of which version they are.
func (s *Server) outdated(r *http.Request) error {
	if page, ok := r.Header[pageHeader]; ok && page[0] != s.cfg.Version {
		return fmt.Errorf("nothing was done: this page is of another version than the daemon, which is onevoice %s; load the page anew", s.cfg.Version)
	}
	return nil
}
