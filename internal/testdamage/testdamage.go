// Package testdamage damages files as failing disks, and people, do: bits flip, files
// get shorter, vanish, become zeros or garbage, or are replaced by older copies.
package testdamage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Kinds of damage.
var Kinds = []string{"flip", "truncate", "delete", "zero", "garbage", "older"}

// Do damages one file below dir in the way kind says, chosen by rng, and says what it
// did. older holds a copy of dir from before (Copy). Files whose path skip accepts are left alone.
// Nothing to damage is no error: then what is empty.
func Do(rng *rand.Rand, kind, dir, older string, skip func(path string) bool) (what string, err error) {
	files, err := list(dir, skip)
	if err != nil || len(files) == 0 {
		return "", err
	}
	path := files[rng.IntN(len(files))]
	what = fmt.Sprintf("%s %s", kind, strings.TrimPrefix(path, dir+"/"))
	switch kind {
	case "delete":
		err = os.Remove(path)
	case "older":
		err = replace(path, filepath.Join(older, strings.TrimPrefix(path, dir)))
	default:
		err = change(rng, kind, path)
	}
	if errors.Is(err, fs.ErrNotExist) { // the server was faster
		return "", nil
	}
	return what, err
}

func list(dir string, skip func(string) bool) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.Type().IsRegular() && (skip == nil || !skip(path)) {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// change alters the file in place, so that whoever has it open sees it.
func change(rng *rand.Rand, kind, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return err
	}
	at := rng.Int64N(st.Size())
	n := min(1+rng.Int64N(4096), st.Size()-at)
	switch kind {
	case "flip":
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		b[0] ^= 1 << rng.IntN(8)
		_, err = f.WriteAt(b, at)
	case "truncate":
		err = f.Truncate(at)
	case "zero":
		if rng.IntN(3) == 0 {
			at, n = 0, st.Size()
		}
		_, err = f.WriteAt(make([]byte, n), at)
	case "garbage":
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		_, err = f.WriteAt(b, at)
	}
	return err
}

// replace puts an older copy in the place of a file; where there was none then, the file
// goes.
func replace(path, older string) error {
	raw, err := os.ReadFile(older)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Remove(path)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// Copy copies the files below dir to the new directory to, as they are at the moment.
func Copy(dir, to string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		dst := filepath.Join(to, strings.TrimPrefix(path, dir))
		if d.IsDir() {
			return os.MkdirAll(dst, 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if err := copyFile(path, dst); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
