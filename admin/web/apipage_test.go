package web

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// object is a part of the API's description, which is read as it comes.
type object = map[string]any

func in(o object, names ...string) object {
	for _, n := range names {
		o, _ = o[n].(object)
	}
	return o
}

// listed are the objects of a list.
func listed(o object, name string) (out []object) {
	list, _ := o[name].([]any)
	for _, one := range list {
		if one, ok := one.(object); ok {
			out = append(out, one)
		}
	}
	return out
}

func word(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// kindOfField is a schema's type, in words.
func kindOfField(s object) string {
	if ref := word(s, "$ref"); ref != "" {
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	}
	if list, ok := s["enum"].([]any); ok {
		var words []string
		for _, w := range list {
			words = append(words, fmt.Sprintf("`%v`", w))
		}
		return strings.Join(words, ", ")
	}
	if both, ok := s["type"].([]any); ok {
		return fmt.Sprintf("%s or %v", kindOfField(object{"type": both[0], "items": s["items"]}), both[1])
	}
	switch word(s, "type") {
	case "array":
		if in(s, "items") == nil {
			return "list"
		}
		return "list of " + kindOfField(in(s, "items"))
	case "object":
		if more := in(s, "additionalProperties"); more != nil {
			return "object, by name: " + kindOfField(more)
		}
	}
	return word(s, "type")
}

// writeFields are rows of a schema's properties, and of those below them.
func writeFields(b *strings.Builder, s object, path string) {
	properties := in(s, "properties")
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p, _ := properties[name].(object)
		needs := ""
		if required, _ := s["required"].([]any); slices.Contains(required, any(name)) {
			needs = "yes"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", path, name, kindOfField(p), needs, word(p, "description"))
		for q, under := p, path+name; q != nil; {
			writeFields(b, q, under+".")
			switch {
			case in(q, "items") != nil:
				q, under = in(q, "items"), under+"[]"
			case in(q, "additionalProperties") != nil:
				q, under = in(q, "additionalProperties"), under+".*"
			default:
				q = nil
			}
		}
	}
}

// apiPage is docs/api.md, of what /v1/openapi.json says.
func apiPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var d object
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# API\n\n%s\n\nMade from `/v1/openapi.json` (`make docs`), which tools read. [The page](page.md#api) has a\ncall to begin with.\n", word(in(d, "info"), "description"))
	for _, path := range slices.Sorted(maps.Keys(in(d, "paths"))) {
		methods := in(d, "paths", path)
		for _, method := range slices.Sorted(maps.Keys(methods)) {
			m := in(methods, method)
			fmt.Fprintf(&b, "\n## %s %s\n\n%s.\n", strings.ToUpper(method), path, word(m, "summary"))
			for _, tag := range listed(d, "tags") {
				if tags, _ := m["tags"].([]any); slices.Contains(tags, tag["name"]) {
					fmt.Fprintf(&b, "%s.\n", word(tag, "description"))
				}
			}
			if list, _ := m["parameters"].([]any); len(list) > 0 {
				b.WriteString("\n| in the query | |\n|---|---|\n")
				for _, p := range list {
					fmt.Fprintf(&b, "| `%s` | %s |\n", word(p.(object), "name"), word(p.(object), "description"))
				}
			}
			if body := in(m, "requestBody", "content", "application/json", "schema"); body != nil {
				fmt.Fprintf(&b, "\nThe body is JSON: %s.\n", kindOfField(body))
				if in(body, "properties") != nil {
					b.WriteString("\n| key | type | required | |\n|---|---|---|---|\n")
					writeFields(&b, body, "")
				}
			}
			b.WriteString("\n| answer | |\n|---|---|\n")
			responses := in(m, "responses")
			for _, code := range slices.Sorted(maps.Keys(responses)) {
				r := in(responses, code)
				if ref := word(r, "$ref"); ref != "" {
					r = in(d, "components", "responses", ref[strings.LastIndexByte(ref, '/')+1:])
				}
				what := word(r, "description")
				if s := in(r, "content", "application/json", "schema"); s != nil {
					what += ": " + kindOfField(s)
				}
				fmt.Fprintf(&b, "| %s | %s |\n", code, what)
			}
		}
	}
	schemas := in(d, "components", "schemas")
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		fmt.Fprintf(&b, "\n## %s\n\n| key | type | always | |\n|---|---|---|---|\n", name)
		writeFields(&b, in(schemas, name), "")
	}
	return b.String()
}

// docs/api.md is what /v1/openapi.json says, which other tests compare with the answers.
func TestAPIPage(t *testing.T) {
	const path = "../../docs/api.md"
	page := apiPage(t)
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, _ := os.ReadFile(path); string(old) != page {
		t.Error("docs/api.md is not what openapi.json says; `make docs` writes it anew")
	}
}
