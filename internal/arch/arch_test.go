// Package arch keeps the import directions of the house: a table of who may import
// whom, and a test that reads the source files.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "understudy/"

// allowed names, for each package of the product, the packages of the product it may
// import. A package with a star may import anything. Test files are judged more
// freely: they may also import what stands in forTests.
var allowed = map[string][]string{
	"cmd/understudy":      {"node", "control", "capture", "capture/holder", "fileop", "repset", "internal/atomicfile", "internal/access", "internal/pamlogin"},
	"bench":               {"control"},
	"node":                {"*"},
	"control":             {"fileop", "repset", "internal/access", "internal/checked"},
	"cmd/dtclsh":          {"dtclsh/syntax", "dtclsh/interp", "dtclsh/console", "dtclsh/tui", "control", "internal/access"},
	"dtclsh/syntax":       {"control"},
	"dtclsh/interp":       {"dtclsh/syntax", "control", "repset", "settings", "event", "internal/statfile"},
	"dtclsh/console":      {"dtclsh/syntax", "dtclsh/interp", "control"},
	"dtclsh/tui":          {"dtclsh/syntax", "dtclsh/interp", "dtclsh/console", "control"},
	"capture":             {"fileop"},
	"capture/lower":       {"fileop", "internal/fsx"},
	"capture/stacked":     {"capture", "capture/lower", "capture/holder", "fileop", "internal/fsx", "internal/mounts"},
	"capture/holder":      {"internal/atomicfile", "internal/mounts"},
	"capture/inotify":     {"capture", "fileop", "internal/fsx"},
	"capture/fanotify":    {"capture"},
	"stream":              {"fileop", "internal/access", "internal/checked", "internal/failpoint"},
	"applier":             {"fileop", "internal/bootid", "internal/digest", "internal/failpoint", "internal/fsx", "internal/idlog"},
	"mirror":              {"fileop", "internal/digest"},
	"failover":            {"internal/atomicfile", "internal/bootid", "internal/failpoint"},
	"history":             {"fileop", "internal/atomicfile"},
	"verifier":            {"fileop", "internal/digest"},
	"repset":              {},
	"settings":            {},
	"schedule":            {},
	"event":               {},
	"fileop":              {},
	"internal/atomicfile": {},
	"internal/digest":     {"fileop"},
	"internal/access":     {"internal/atomicfile"},
	"internal/pamlogin":   {},
	"internal/checked":    {},
	"internal/bootid":     {},
	"internal/failpoint":  {},
	"internal/fsx":        {"fileop"},
	"internal/idlog":      {"fileop", "internal/atomicfile"},
	"internal/mounts":     {},
	"internal/statfile":   {},
	"internal/sametree":   {},
	"internal/model":      {"fileop", "internal/sametree"},
	"internal/exercise":   {},
	"internal/powercut":   {},
	"internal/testdamage": {},
	"internal/testfuse":   {},
	"internal/testnode":   {"*"},
	"internal/testterm":   {},
	"internal/testlogin":  {"internal/pamlogin"},
	"internal/arch":       {},

	"internal/testpostgres": {},

	"internal/stories":          {"control", "node", "internal/bootid", "internal/exercise", "internal/failpoint", "internal/sametree", "internal/testfuse", "internal/testnode"},
	"internal/stories/connect":  {},
	"internal/stories/tasks":    {},
	"internal/stories/topology": {},
	"internal/stories/history":  {},
	"internal/stories/wire":     {},
	"internal/stories/failover": {},
	"internal/stories/restore":  {},
}

// homes gives outside packages their one home (style.md, "Each outside package has
// one home"). A prefix of the import path; the folders that may use it.
var homes = map[string][]string{
	"github.com/fsnotify/fsnotify":   {"capture/inotify"},
	"github.com/hanwen/go-fuse":      {"capture/stacked"},
	"github.com/nats-io/nats-server": {"stream"},
	"github.com/nats-io/nats.go":     {"stream", "control", "internal/access", "internal/checked"},
	"github.com/nats-io/nkeys":       {"internal/access"},
	"github.com/vishvananda/netlink": {"failover", "internal/testhost"},
	"github.com/spf13/viper":         {"cmd/understudy"},
	"github.com/spf13/cobra":         {"cmd/understudy", "cmd/dtclsh"},
	"github.com/peterh/liner":        {"dtclsh/console"},
	"charm.land/":                    {"dtclsh/tui"},
	"github.com/charmbracelet/":      {"dtclsh/tui"},
	"go.etcd.io/bbolt":               {"applier"},
	"github.com/zeebo/xxh3":          {"internal/digest"},
	"google.golang.org/protobuf":     {"fileop"},
}

func TestImportDirections(t *testing.T) {
	root := "../.."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "tools") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		seen[rel] = true
		checkFile(t, path, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range seen {
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("%s: not in the table of import directions; add a line that says what it may import", pkg)
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %d packages found below %s: the test looks in the wrong place", len(seen), root)
	}
}

func checkFile(t *testing.T, path, pkg string) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	test := strings.HasSuffix(path, "_test.go")
	for _, imp := range f.Imports {
		name, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if test {
			continue
		}
		if inner, ok := strings.CutPrefix(name, module); ok {
			checkInner(t, path, pkg, inner)
			continue
		}
		for prefix, folders := range homes {
			if strings.HasPrefix(name, prefix) && !slices.Contains(folders, pkg) {
				t.Errorf("%s imports %s, whose home is %v", path, name, folders)
			}
		}
	}
}

func checkInner(t *testing.T, path, pkg, inner string) {
	if strings.HasPrefix(inner, "internal/test") || inner == "internal/exercise" || inner == "internal/sametree" || inner == "internal/model" || inner == "internal/powercut" {
		if !strings.HasPrefix(pkg, "internal/") {
			t.Errorf("%s imports %s, which is for tests only", path, inner)
		}
	}
	ok := slices.Contains(allowed[pkg], inner) || slices.Contains(allowed[pkg], "*")
	if !ok {
		t.Errorf("%s imports %s: %s may import only %v", path, inner, pkg, allowed[pkg])
	}
}
