package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// syntax turns the TOML library's error into ours. After it nothing else of the
// file can be told.
func (p *problems) syntax(err error) {
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		p.list = append(p.list, problem{1, oneLine(err.Error())})
		return
	}
	line, _ := bad.Position()
	text := oneLine(strings.TrimPrefix(bad.Error(), "toml: "))
	if strings.Contains(text, "already defined") || strings.Contains(text, "already exists") {
		text += "; write it once"
	}
	p.list = append(p.list, problem{min(max(line, 1), p.lastLine), text})
}

// oneLine keeps what a terminal would obey out of an error.
func oneLine(text string) string {
	quoted := shown(text)
	return strings.ReplaceAll(quoted[1:strings.LastIndexByte(quoted, '"')], `\"`, `"`)
}

// decode fills a raw struct, or a part of it, from a value of the file. Unlike
// the TOML library's own decoder it tells names apart by case, a table from a
// list of tables, and reports every fault.
func (p *problems) decode(key string, value any, into reflect.Value) {
	switch into.Kind() {
	case reflect.Struct:
		if table, ok := value.(map[string]any); ok {
			p.decodeTable(key, table, into)
			return
		}
		if text, ok := value.(string); ok && alone(into.Type()) {
			into.Field(0).Set(reflect.ValueOf(&text))
			return
		}
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			break
		}
		into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
		for i, v := range list {
			p.decode(fmt.Sprintf("%s[%d]", key, i), v, into.Index(i))
		}
		return
	case reflect.Map:
		table, ok := value.(map[string]any)
		if !ok {
			break
		}
		into.Set(reflect.MakeMapWithSize(into.Type(), len(table)))
		for _, k := range slices.Sorted(maps.Keys(table)) {
			element := reflect.New(into.Type().Elem()).Elem()
			p.decode(join(key, keyPart(k)), table[k], element)
			into.SetMapIndex(reflect.ValueOf(k), element)
		}
		return
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		p.decode(key, value, into.Elem())
		return
	default:
		if v := reflect.ValueOf(value); v.Type() == into.Type() {
			into.Set(v)
			p.refuseNotYet(key, value)
			return
		}
	}
	p.at(key, "this is %s; write %s", kindOf(value), wanted(key, into.Type()))
}

func (p *problems) decodeTable(key string, table map[string]any, into reflect.Value) {
	known := keysOf(into.Type())
	for _, k := range slices.Sorted(maps.Keys(table)) {
		if i := slices.Index(known, k); i >= 0 {
			p.decode(join(key, k), table[k], into.Field(i))
			continue
		}
		path := join(key, keyPart(k))
		meant := nearest(k, known)
		if meant == "" {
			p.at(path, "there is no such key; known are %s", strings.Join(known, ", "))
			continue
		}
		p.at(path, "there is no such key; did you mean %s?", meant)
		// What was meant is not missing besides.
		if _, written := table[meant]; !written {
			p.told[join(key, meant)] = true
		}
	}
}

// kindOf names the type of a value in the file's terms.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a text"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	default:
		return "a date or time"
	}
}

// wanted says how the right type is written.
func wanted(key string, t reflect.Type) string {
	name := key[strings.LastIndexByte(key, '.')+1:]
	name, _, element := strings.Cut(name, "[")
	switch {
	case alone(t):
		return fmt.Sprintf(`a text in quotes, or a table { %s = "…" }`, strings.Join(keysOf(t), ` = "…", `))
	case t.Kind() == reflect.Slice && alone(t.Elem()):
		return `a list of texts, ["…", "…"]`
	case t.Kind() == reflect.Struct && element, t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return fmt.Sprintf("tables [[%s]]", name)
	case t.Kind() == reflect.Struct:
		return fmt.Sprintf("a table [%s]", cmp.Or(name, "…"))
	case t.Kind() == reflect.Map:
		return `a table of names with lists of whole numbers, { unix1 = [1], unix2 = [2] }`
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Int64:
		return "a list of whole numbers, such as [1, 2]"
	case t.Kind() == reflect.Slice:
		return `a list of texts, ["…", "…"]`
	case t.Kind() == reflect.Int64:
		return "a whole number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	default:
		return `a text in quotes, "…"`
	}
}
