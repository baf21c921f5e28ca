package config

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxDepth bounds the parts of a path, so that a key of a hundred thousand dots
// costs no more than another; no key of ours has more than four.
const maxDepth = 8

// keyLines finds the line of every table, key and element of a list, by paths
// such as "service[0].listen" and "cluster.peers[2]".
func keyLines(data []byte) map[string]int {
	x := &lineIndex{lines: map[string]int{}, tables: map[string]int{}}
	for at, b := range data {
		if b == '\n' {
			x.ends = append(x.ends, at)
		}
	}
	x.parser.Reset(data)
	table := ""
	for x.parser.NextExpression() {
		e := x.parser.Expression()
		switch e.Kind {
		case unstable.Table:
			table = x.table(e, false)
		case unstable.ArrayTable:
			table = x.table(e, true)
		case unstable.KeyValue:
			x.keyValue(table, e, 0)
		}
	}
	return x.lines
}

// lineIndex is what keyLines knows while it reads.
type lineIndex struct {
	parser unstable.Parser
	ends   []int          // offsets of the line ends, rising
	lines  map[string]int // path to line
	tables map[string]int // path of a [[table]] to how many there are
}

func (x *lineIndex) at(n *unstable.Node) int {
	return 1 + sort.SearchInts(x.ends, int(n.Raw.Offset))
}

// note keeps the first line of a path.
func (x *lineIndex) note(path string, line int) {
	if _, known := x.lines[path]; !known {
		x.lines[path] = line
	}
}

// table notes the head of a table and returns its path, in which a name that
// stands for a list of tables means its last.
func (x *lineIndex) table(e *unstable.Node, list bool) string {
	path, line := "", 1
	for it, depth := e.Key(), 0; it.Next() && depth < maxDepth; depth++ {
		n := it.Node()
		line = x.at(n)
		path = join(path, keyPart(string(n.Data)))
		if list && it.IsLast() {
			x.note(path, line)
			x.tables[path]++
		}
		if count := x.tables[path]; count > 0 {
			path = fmt.Sprintf("%s[%d]", path, count-1)
		}
	}
	x.note(path, line)
	return path
}

func (x *lineIndex) keyValue(table string, e *unstable.Node, depth int) {
	path, line := table, 1
	for it := e.Key(); it.Next() && depth < maxDepth; depth++ {
		n := it.Node()
		line = x.at(n)
		path = join(path, keyPart(string(n.Data)))
		x.note(path, line)
	}
	x.value(path, line, e.Value(), depth)
}

// value notes the elements of lists and of tables in one line. The parser gives
// a list no place of its own: it counts as being where its key is.
func (x *lineIndex) value(path string, line int, v *unstable.Node, depth int) {
	if depth >= maxDepth {
		return
	}
	switch v.Kind {
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			element, at := it.Node(), line
			if element.Raw.Length > 0 {
				at = x.at(element)
			}
			x.note(fmt.Sprintf("%s[%d]", path, i), at)
			x.value(fmt.Sprintf("%s[%d]", path, i), at, element, depth+1)
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			x.keyValue(path, it.Node(), depth)
		}
	}
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// keyPart is a key as the file would write it, so that a path is one line and
// means one key.
func keyPart(key string) string {
	strange := func(r rune) bool {
		return r != '_' && r != '-' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}
	if key != "" && len(key) <= maxShownBytes && !strings.ContainsFunc(key, strange) {
		return key
	}
	return shown(key)
}

// maxShownBytes bounds how much of a strange value an error repeats.
const maxShownBytes = 100

// shown is a value of the file in quotes, on one line and not endless.
func shown(s string) string {
	if len(s) > maxShownBytes {
		return strconv.Quote(strings.ToValidUTF8(s[:maxShownBytes], "")) + "…"
	}
	return strconv.Quote(s)
}
