package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuaranteesNameTheirTests: every test named in docs/guarantees.md exists in the
// package named before it.
func TestGuaranteesNameTheirTests(t *testing.T) {
	doc, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile("`([a-z/]+)`|((?:Test|Fuzz)[A-Za-z0-9_]+)")
	rows := 0
	for _, line := range strings.Split(string(doc), "\n") {
		if !strings.HasPrefix(line, "| G") {
			continue
		}
		rows++
		cells := strings.Split(line, "|")
		pkg, found := "", 0
		for _, m := range word.FindAllStringSubmatch(cells[4], -1) {
			if m[1] != "" {
				pkg = m[1]
				continue
			}
			found++
			if !hasTest(t, pkg, m[2]) {
				t.Errorf("%s: package %q has no %s", strings.TrimSpace(cells[1]), pkg, m[2])
			}
		}
		if found == 0 {
			t.Errorf("%s names no test", strings.TrimSpace(cells[1]))
		}
	}
	if rows == 0 {
		t.Error("no guarantees found")
	}
}

func hasTest(t *testing.T, pkg, name string) bool {
	files, err := filepath.Glob(filepath.Join("../..", pkg, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("package %q has no tests", pkg)
		return false
	}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(src), "func "+name+"(") {
			return true
		}
	}
	return false
}
