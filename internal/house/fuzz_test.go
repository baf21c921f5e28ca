package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every fuzz target is one of `make fuzz`: one that nobody runs finds nothing.
func TestMakeFuzzRunsAllTargets(t *testing.T) {
	const root = "../.."
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	found := 0
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		for _, m := range target.FindAllSubmatch(b, -1) {
			found++
			if line := "'^" + string(m[1]) + "$$' ./" + folder + "\n"; !strings.Contains(string(makefile), line) {
				t.Errorf("Makefile does not run %s of %s", m[1], folder)
			}
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%d targets, %v", found, err)
	}
}
