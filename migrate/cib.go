package migrate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// cibPlace is where in the cluster information base the reader is.
type cibPlace struct {
	list     []*resource
	nodes    []string
	resource *resource
	clone    map[string]string
	// inClone counts the clones around, and section is instance or meta attributes.
	inClone int
	section string
}

// cib reads what `cibadmin --query` prints, or a part of it.
func (r *reading) cib() error {
	d := xml.NewDecoder(bytes.NewReader(r.in.Data))
	var at cibPlace
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("this is no XML that can be read: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			line, _ := d.InputPos()
			at.begin(line, &t)
		case xml.EndElement:
			at.end(t.Name.Local)
		}
	}
	r.resources(at.list, at.nodes)
	return nil
}

func (at *cibPlace) begin(line int, t *xml.StartElement) {
	a := map[string]string{}
	for _, x := range t.Attr {
		a[x.Name.Local] = x.Value
	}
	switch t.Name.Local {
	case "clone":
		at.inClone++
		at.clone = map[string]string{}
	case "primitive":
		at.resource = newResource(line, a["id"], strings.Join([]string{a["class"], a["provider"], a["type"]}, ":"))
		if at.inClone > 0 {
			at.resource.cloned, at.resource.meta = true, at.clone
		}
		at.list = append(at.list, at.resource)
	case "node":
		if a["uname"] != "" {
			at.nodes = append(at.nodes, a["uname"])
		}
	case "instance_attributes", "meta_attributes", "utilization":
		at.section = t.Name.Local
	case "nvpair":
		switch {
		case at.section == "instance_attributes" && at.resource != nil:
			at.resource.params[a["name"]] = a["value"]
		case at.section == "meta_attributes" && at.resource == nil && at.clone != nil:
			at.clone[a["name"]] = a["value"]
		}
	}
}

func (at *cibPlace) end(name string) {
	switch name {
	case "clone":
		if at.inClone--; at.inClone <= 0 {
			at.inClone, at.clone = 0, nil
		}
	case "primitive":
		at.resource = nil
	case "instance_attributes", "meta_attributes", "utilization":
		at.section = ""
	}
}
