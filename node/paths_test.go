package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy/control"
)

// pathsOf asks a node which paths begin so.
func pathsOf(t *testing.T, n *Node, prefix string) (control.Paths, error) {
	t.Helper()
	got, err := n.listPaths(context.Background(), control.PathsRequest{Prefix: prefix})
	p, _ := got.(control.Paths)
	return p, err
}

// TestPathsForCompletion: paths are listed as they are, beneath a mount of the daemon
// too, and never more than the bound.
func TestPathsForCompletion(t *testing.T) {
	p := newPair(t, false)
	base := p.dir
	for _, dir := range []string{"pay", "pay day"} {
		must(t, os.MkdirAll(filepath.Join(base, dir, "sub"), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(base, "pay.txt"), nil, 0o644))
	must(t, os.Symlink("pay", filepath.Join(base, "playlink")))
	must(t, os.Mkdir(filepath.Join(base, "many"), 0o755))
	for i := range maxPaths + 50 {
		must(t, os.WriteFile(filepath.Join(base, "many", fmt.Sprintf("f%04d", i)), nil, 0o644))
	}
	check := func() {
		t.Helper()
		for prefix, want := range map[string]string{
			"/pay": "/pay day/,/pay.txt,/pay/", "/pay/": "/pay/sub/", "/pay.": "/pay.txt", "/pl": "/playlink", "/nothing": "", "/nothing/x": "", "/pay.txt/": "", "//pay/s": "//pay/sub/",
		} {
			got, err := pathsOf(t, p.source, base+prefix)
			list := []string{}
			for _, s := range got.Paths {
				list = append(list, strings.TrimPrefix(s, base))
			}
			if err != nil || strings.Join(list, ",") != want || got.More {
				t.Errorf("%s: %q, %v, want %s", prefix, list, err, want)
			}
		}
		got, err := pathsOf(t, p.source, base+"/many/")
		if err != nil || len(got.Paths) != maxPaths || !got.More || !slices.IsSorted(got.Paths) {
			t.Errorf("%d paths, more %v, %v", len(got.Paths), got.More, err)
		}
	}
	check()
	_, err := p.source.Mount(t.Context(), base)
	must(t, err)
	check()
	for _, bad := range []string{"", "relative", "/\x00", "/" + strings.Repeat("x", maxPrefix)} {
		_, err := pathsOf(t, p.source, bad)
		wantCode(t, err, control.BadRequest)
	}
	for range maxListers { // all hang
		listers <- struct{}{}
	}
	defer func() {
		for range maxListers {
			<-listers
		}
	}()
	_, err = pathsOf(t, p.source, "/")
	wantCode(t, err, control.NotReady)
}
