package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"onevoice/admin"
)

// described is what the API's description says, as far as it is checked.
type described struct {
	Paths map[string]map[string]struct {
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
	want := []string{admin.DoDrain, admin.DoUndrain, admin.DoEndFlows, admin.DoWeight, admin.DoPin, admin.DoUnpin, admin.DoMove, admin.DoForget}
	if !slices.Equal(wishes, want) {
		t.Errorf("wishes %v, want %v", wishes, want)
	}
}
