package web

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"onevoice/admin"
	"onevoice/control"
)

// described is what the API's description says, as far as it is checked.
type described struct {
	Paths map[string]map[string]struct {
		Tags      []string
		Responses map[string]any
	}
	Components struct {
		Schemas map[string]struct {
			Required   []string
			Properties map[string]struct{ Enum []string }
		}
	}
}

func describedAPI(t *testing.T, h http.Handler) (d described) {
	t.Helper()
	w := ask(h, asking{method: "GET", path: "/v1/openapi.json"})
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
		t.Fatalf("%d, %v", w.Code, err)
	}
	return d
}

// Each path and method that is described is there, and answers with a code that is
// described, whoever asks.
func TestDescribedPathsAreThere(t *testing.T) {
	d := &daemon{now: epoch()}
	for _, token := range []string{"", secret} {
		h, _ := handler(d, token)
		for path, methods := range describedAPI(t, h).Paths {
			for method, is := range methods {
				if slices.Contains(is.Tags, "socket") {
					continue
				}
				for _, bearer := range []string{"", secret} {
					for _, body := range []string{"", drainBody, `{"token":"` + secret + `"}`} {
						w := ask(h, asking{method: strings.ToUpper(method), path: path, body: body, headers: map[string]string{"Authorization": "Bearer " + bearer}})
						if _, ok := is.Responses[strconv.Itoa(w.Code)]; !ok {
							t.Errorf("%s %s answers %d, which is not described", method, path, w.Code)
						}
					}
				}
			}
		}
	}
}

// What answers have is what is described, no more and no less.
func TestAnswersAreAsDescribed(t *testing.T) {
	d := &daemon{now: epoch()}
	h, s := handler(d, "")
	status, _ := d.status(admin.Wanted{})
	s.history.Observe(epoch(), status)
	api := describedAPI(t, h)
	for path, schema := range map[string]string{"/v1/status?table=1": "Status", "/v1/history": "History"} {
		var got map[string]any
		if err := json.Unmarshal(ask(h, asking{method: "GET", path: path}).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for key := range got {
			if _, ok := api.Components.Schemas[schema].Properties[key]; !ok {
				t.Errorf("%s has %s, which is not described", path, key)
			}
		}
		for _, key := range api.Components.Schemas[schema].Required {
			if _, ok := got[key]; !ok {
				t.Errorf("%s has no %s", path, key)
			}
		}
	}
	wishes := api.Components.Schemas["Wish"].Properties["do"].Enum
	want := []string{admin.DoDrain, admin.DoUndrain, admin.DoEndFlows, admin.DoWeight, admin.DoPin, admin.DoUnpin, admin.DoMove, admin.DoForget, admin.DoTakeover, admin.DoRemap}
	if !slices.Equal(wishes, want) {
		t.Errorf("wishes %v, want %v", wishes, want)
	}
}

// Each route is described, with the door at which it is, and nothing else is.
func TestRoutesAreDescribed(t *testing.T) {
	h, s := handler(&daemon{now: epoch()}, "")
	doors := map[string][]string{}
	for _, route := range admin.Routes() {
		doors[route] = []string{"socket"}
	}
	for route := range s.routes() {
		if doors[route] != nil {
			doors[route] = nil // at both
			continue
		}
		doors[route] = []string{"listen"}
	}
	for path, methods := range describedAPI(t, h).Paths {
		for method, is := range methods {
			route := strings.ToUpper(method) + " " + path
			want, there := doors[route]
			if !there || !slices.Equal(is.Tags, want) {
				t.Errorf("%s is described at %v; it is there: %v, at %v", route, is.Tags, there, want)
			}
			delete(doors, route)
		}
	}
	for route := range doors {
		t.Errorf("%s is not described", route)
	}
}

// fieldsOf are the keys that a type has as JSON, and those that it always has.
func fieldsOf(of reflect.Type) (all, always []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			a, b := fieldsOf(f.Type)
			all, always = append(all, a...), append(always, b...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, name)
		if options != "omitempty" {
			always = append(always, name)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}

// The description of what is answered has the keys that answers have.
func TestTypesAreAsDescribed(t *testing.T) {
	h, _ := handler(&daemon{now: epoch()}, "")
	schemas := describedAPI(t, h).Components.Schemas
	for name, of := range map[string]any{
		"VIP": admin.VIPStatus{}, "Service": admin.ServiceStatus{}, "Node": admin.NodeStatus{}, "Wish": admin.Wish{},
		"Explanation": admin.Explanation{}, "ChangeStatus": admin.ChangeStatus{}, "Killed": admin.Killed{},
		"Examined": control.Examined{}, "Card": control.Card{}, "History": Recent{}, "PrefixFile": control.PrefixFileStatus{},
	} {
		all, always := fieldsOf(reflect.TypeOf(of))
		s := schemas[name]
		slices.Sort(s.Required)
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, all) || !slices.Equal(s.Required, always) {
			t.Errorf("%s is described with %v, always %v; it has %v, always %v", name, got, s.Required, all, always)
		}
	}
}
