package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"onevoice/control"
)

// FuzzRequest: whatever is asked at the socket, there is an answer of HTTP; what has
// more than a wish's bytes, or fields that nobody knows, wishes for nothing.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"node":"n1","drain":true}`, `{"kind":"weight","node":"n1","weight":9}`, `{"clients":"10.0.0.0/8","port":22}`, `{"a":1}`, `[`, `{}{}`, strings.Repeat("x", maxWishBytes+1)} {
		for _, path := range []string{"/v1/wish", "/v1/kill", "/v1/status?table&gc", "/v1/explain?client=10.0.0.1&to=10.0.0.2:22"} {
			f.Add("POST", path, s)
			f.Add("GET", path, "")
		}
	}
	f.Fuzz(func(t *testing.T, method, path, body string) {
		wished, killed := 0, 0
		handler := handlerOf(&Daemon{
			Status: fixed,
			Wish: func(w Wish) error {
				wished++
				_, err := w.Cluster("n1")
				return err
			},
			Kill:    func(control.Kill) (int, error) { killed++; return 1, nil },
			Explain: func(string, string) (*Explanation, error) { return nil, errors.New("nobody") },
		})
		r, err := http.NewRequest(method, "http://onevoice"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 503 {
			t.Errorf("%s %s: status %d", method, path, w.Code)
		}
		if wished+killed > 1 || wished+killed == 1 && (r.Method != http.MethodPost || !json.Valid([]byte(firstValue(body)))) {
			t.Errorf("%s %s %q: %d wishes, %d kills", method, path, body, wished, killed)
		}
		if long := len(body) > maxWishBytes && strings.TrimSpace(body[:maxWishBytes]) == body[:maxWishBytes] && !json.Valid([]byte(firstValue(body[:maxWishBytes]))); long && wished+killed > 0 {
			t.Errorf("%d bytes wished for something", len(body))
		}
	})
}

// firstValue is the first value of JSON in a text, which is what is read of it.
func firstValue(text string) string {
	var v json.RawMessage
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&v); err != nil {
		return text
	}
	return string(v)
}
