package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// perDir is how many files a directory of a made tree holds.
const perDir = 100

// randomPool is data that does not compress; files take pieces of it.
func randomPool(size int) []byte {
	pool := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(pool)
	return pool
}

// makeTree makes files of least to most bytes in directories d0, d1 and so on, and
// leaves nothing to be written back during the measurement.
func makeTree(dir string, files int, least, most int) error {
	pool := randomPool(1<<20 + most)
	rng := rand.New(rand.NewPCG(7, uint64(files)))
	for i := range files {
		sub := fmt.Sprintf("%s/d%d", dir, i/perDir)
		if i%perDir == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		at, n := rng.IntN(1<<20), least+rng.IntN(most-least+1)
		if err := os.WriteFile(fmt.Sprintf("%s/f%d", sub, i%perDir), pool[at:at+n], 0o644); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// makeFile makes one file of random bytes.
func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	src := rand.NewChaCha8([32]byte{2})
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buf)) {
		src.Read(buf)
		if _, err := f.Write(buf[:min(int64(len(buf)), size-at)]); err != nil {
			return err
		}
	}
	return f.Sync()
}

// sameTree compares names and content of regular files, so that a measured time is one
// of a copy that is right. Other attributes are the tests' business.
func sameTree(a, b string) error {
	count := func(root string) (n int, err error) {
		err = filepath.WalkDir(root, func(_ string, _ fs.DirEntry, err error) error { n++; return err })
		return n, err
	}
	err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return sameFile(path, filepath.Join(b, path[len(a):]))
	})
	if err != nil {
		return err
	}
	na, err := count(a)
	if err != nil {
		return err
	}
	nb, err := count(b)
	if err == nil && na != nb {
		err = fmt.Errorf("%s has %d names, %s has %d", a, na, b, nb)
	}
	return err
}

func sameFile(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		if errA != nil || errB != nil {
			return notEnd(errors.Join(errA, errB))
		}
	}
}

func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
