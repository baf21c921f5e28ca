package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxErrors bounds the errors that are reported of one file.
const maxErrors = 20

// problems collects the errors of a file.
type problems struct {
	file  string
	lines map[string]int
	list  []problem
	// badVIP: one of the VIPs has a problem of its own.
	badVIP bool
}

type problem struct {
	line int
	text string
}

// at reports a problem of a key, such as "service[0].listen", at its line, or
// at that of the table around it when the key is missing.
func (p *problems) at(key, format string, args ...any) {
	p.list = append(p.list, problem{p.line(key), key + ": " + fmt.Sprintf(format, args...)})
}

func (p *problems) line(key string) int {
	for {
		if line, ok := p.lines[key]; ok {
			return line
		}
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return 1
		}
		key = key[:i]
	}
}

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
// default of [node] name.
func Parse(name string, data []byte, host string) (*Config, error) {
	p := &problems{file: name}
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s:1: the file has %d bytes, at most %d are read", name, len(data), MaxFileBytes)
	}
	p.lines = keyLines(data)
	var raw rawFile
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		p.decoding(err)
		return nil, p.err()
	}
	c := p.check(&raw, host)
	if err := p.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// decoding turns the TOML library's errors into ours.
func (p *problems) decoding(err error) {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			p.list = append(p.list, problem{max(line, 1), unknownKey(e.Key())})
		}
		return
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		p.list = append(p.list, problem{max(line, 1), decodeText(bad)})
		return
	}
	p.list = append(p.list, problem{1, err.Error()})
}

// decodeText says a wrong type in the file's terms; syntax errors of the
// library already do.
func decodeText(e *toml.DecodeError) string {
	text := strings.TrimPrefix(e.Error(), "toml: ")
	wrongType := regexp.MustCompile(`cannot decode TOML (\w+) into .* of type (\S+)`)
	if m := wrongType.FindStringSubmatch(text); m != nil {
		wanted := map[string]string{"string": "a text in quotes", "int": "a whole number", "bool": "true or false", "[]string": "a list of texts, [\"…\", \"…\"]"}[m[2]]
		if wanted == "" {
			wanted = m[2]
		}
		text = fmt.Sprintf("this is %s; write %s", m[1], wanted)
	}
	if len(e.Key()) > 0 {
		return strings.Join(e.Key(), ".") + ": " + text
	}
	return text
}

func unknownKey(key []string) string {
	full := strings.Join(key, ".")
	table, last := "", key[len(key)-1]
	if len(key) > 1 {
		table = key[0]
	}
	known := knownKeys()[table]
	best, distance := "", len(last)/3+2
	for _, k := range known {
		if d := editDistance(k, last); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("%s: there is no such key; did you mean %s?", full, best)
	}
	if len(known) == 0 {
		return full + ": there is no such key"
	}
	return fmt.Sprintf("%s: there is no such key; known are %s", full, strings.Join(known, ", "))
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// keyLines finds the line of every table and key, such as "service[0].listen".
// A file that cannot be parsed gives those before the fault.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var parser unstable.Parser
	parser.Reset(data)
	table, count := "", map[string]int{}
	for parser.NextExpression() {
		e := parser.Expression()
		key, line := keyAt(&parser, e)
		switch e.Kind {
		case unstable.Table:
			table = key
			lines[table] = line
		case unstable.ArrayTable:
			table = fmt.Sprintf("%s[%d]", key, count[key])
			count[key]++
			lines[table] = line
		case unstable.KeyValue:
			if table != "" {
				key = table + "." + key
			}
			lines[key] = line
		}
	}
	return lines
}

func keyAt(parser *unstable.Parser, e *unstable.Node) (string, int) {
	var parts []string
	line := 1
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if len(parts) == 0 {
			line = parser.Shape(n.Raw).Start.Line
		}
		parts = append(parts, string(n.Data))
	}
	return strings.Join(parts, "."), line
}
