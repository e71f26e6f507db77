package history

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
)

// encrypt does what ransomware does: each file is replaced by its encryption under another
// name, from the deepest directory on.
func encrypt(t *testing.T, dir string) (files int) {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	must(t, err)
	var list []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list = append(list, path)
		}
		return err
	}))
	for i, path := range list {
		raw, err := os.ReadFile(path)
		must(t, err)
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(raw, raw)
		must(t, os.WriteFile(path, raw, 0o600))
		must(t, os.Rename(path, filepath.Join(filepath.Dir(path), fmt.Sprintf("%d.locked", i))))
	}
	return len(list)
}

// TestRansomwareIsUndone (G90): the tree is back as of one second before the encryption
// began, by the clock alone, after the source is gone.
func TestRansomwareIsUndone(t *testing.T) {
	p := newPair(t)
	job := exercise.Job{Kind: "stress", Dir: filepath.Join(p.Dir, "office"), Seed: 11, Ops: 1500, Workers: 2}
	must(t, os.Mkdir(job.Dir, 0o755))
	if _, err := job.RunChild(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.fill("big", 8)
	was := p.snapshot("good")
	time.Sleep(1100 * time.Millisecond) // the second before, in which nothing changes
	began := time.Now()
	if n := encrypt(t, p.Dir); n < 10 {
		t.Fatalf("%d files encrypted", n)
	}
	p.Settle()
	p.Source.Kill()
	dir, rep := p.replay(control.ReplayRequest{Set: "tree", At: began.Add(-time.Second)})
	t.Logf("rebuilt operation %d of %s in %.2f s", rep.Op, rep.Time, rep.Seconds)
	same(t, was, dir)
}
