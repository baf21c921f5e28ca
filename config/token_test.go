package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A token is one word, long enough that nobody guesses it.
func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for text, says := range map[string]string{
		strings.Repeat("a", minTokenBytes) + "\n":   "",
		strings.Repeat("a", minTokenBytes):          "",
		strings.Repeat("a", minTokenBytes-1) + "\n": "is not one word of at least 16 letters",
		"": "is not one word of at least 16 letters",
		strings.Repeat("a", minTokenBytes) + " and another":  "is not one word of at least 16 letters",
		strings.Repeat("aaaaaaaaaaaaaaaa\n", 2):              "is not one word of at least 16 letters",
		strings.Repeat("a", maxTokenFileBytes) + "\n" + "\n": "token",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		token, err := ReadToken(path)
		if says == "" && (err != nil || string(token) != strings.TrimSpace(text)) || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%.40q: %q, %v; want %q", text, token, err, says)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("a", minTokenBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadToken(path); err == nil || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}
