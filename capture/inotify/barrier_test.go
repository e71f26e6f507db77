package inotify

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestSyncTellsWhatHappenedBefore: when Sync returns the sink was told of every change
// before the call, of those in fresh directories too, whoever else waits.
func TestSyncTellsWhatHappenedBefore(t *testing.T) {
	root := t.TempDir()
	r := start(t, root, Config{})
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d-%d", worker, i)
				if i%10 == 9 {
					if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
						t.Error(err)
					}
					name += "/below"
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o644); err != nil {
					t.Error(err)
				}
				if err := r.Sync(); err != nil {
					t.Error(err)
				}
				if r.count(name, false)+r.count(filepath.Dir(name), true) == 0 {
					t.Errorf("%s was not told of", name)
				}
			}
		})
	}
	wait.Wait()
}
