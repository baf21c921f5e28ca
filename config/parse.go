package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxErrors bounds the errors that are reported of one file.
const maxErrors = 20

// byteOrderMark is what some editors put before a text; TOML has none.
const byteOrderMark = "\uFEFF"

// problems collects the errors of a file.
type problems struct {
	file     string
	lines    map[string]int
	lastLine int
	// told are the keys that have a problem already. What follows from it is
	// not told besides.
	told map[string]bool
	// otherHash: a service is shared as another system does it.
	otherHash bool
	list      []problem
}

type problem struct {
	line int
	text string
}

// at reports a problem of a key, such as "service[0].listen", at its line, or
// at that of the table around it when the key is missing. Of a key, and of what
// is in it, the first problem alone is reported.
func (p *problems) at(key, format string, args ...any) {
	for k := key; k != ""; k = around(k) {
		if p.told[k] {
			return
		}
	}
	p.told[key] = true
	p.list = append(p.list, problem{p.line(key), key + ": " + fmt.Sprintf(format, args...)})
}

// toldIn reports whether a key, or what is in it, has a problem.
func (p *problems) toldIn(key string) bool {
	for k := range p.told {
		if rest, ok := strings.CutPrefix(k, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// line is where a key is, or what is around it.
func (p *problems) line(key string) int {
	for ; key != ""; key = around(key) {
		if line, ok := p.lines[key]; ok {
			return line
		}
	}
	return 1
}

// around is the table or list that a key is in.
func around(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for i, e := range p.list {
		if i == maxErrors {
			errs = append(errs, fmt.Errorf("%s:%d: and %d more errors", p.file, e.line, len(p.list)-maxErrors))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s", p.file, e.line, e.text))
	}
	return errors.Join(errs...)
}

// Parse reads the bytes of a file called name. host is this host's name, the
// default of [node] name. The error has a line for each fault, in the order of
// the file, "NAME:LINE: KEY: what is wrong; what to write"; a fault in the TOML
// itself stands alone, for the rest cannot be read.
func Parse(name string, data []byte, host string) (*Config, error) {
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s:1: the file is too long; at most %d bytes are read", name, MaxFileBytes)
	}
	text := string(data)
	if strings.HasPrefix(text, byteOrderMark) {
		return nil, fmt.Errorf("%s:1: the file begins with a byte order mark; save it as UTF-8 without one", name)
	}
	p := &problems{file: name, lastLine: 1 + strings.Count(text, "\n"), told: map[string]bool{}}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		p.syntax(err)
		return nil, p.err()
	}
	p.lines = keyLines(data)
	var raw rawFile
	p.decode("", values, reflect.ValueOf(&raw).Elem())
	c := p.check(&raw, host)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}
