package capture

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestForeignHolders(t *testing.T) {
	root := t.TempDir() + "/protected"
	for _, d := range []string{root, root + "2"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `mkdir "$1/cwd"; cd "$1/cwd"; exec 3>"$1/write" 4<"$1/write" 5<>"$1/both" 6>"$1/gone" 7<"$1" 8>"${1}2/beside"
		rm "$1/gone"; echo ready; read line`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", root)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("shell says %q, %v", line, err)
	}
	own, err := os.Create(root + "/own") // our own descriptors are not foreign
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()

	held, err := ForeignHolders(root)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(held, func(a, b Foreign) int { return strings.Compare(a.Path, b.Path) })
	pid, name := cmd.Process.Pid, "sh"
	want := []Foreign{{pid, name, root, false}, {pid, name, root + "/both", true},
		{pid, name, root + "/cwd", false},
		{pid, name, root + "/gone (deleted)", true}, {pid, name, root + "/write", true}}
	if !slices.Equal(held, want) {
		t.Errorf("got %+v, want %+v", held, want)
	}
	if _, err := ForeignHolders(root + "/none"); err == nil {
		t.Error("a missing directory is accepted")
	}
}

func BenchmarkForeignHolders(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if _, err := ForeignHolders(dir); err != nil {
			b.Fatal(err)
		}
	}
}
