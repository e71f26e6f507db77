package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNoJournal: what was to be read holds no rows of an event journal.
var ErrNoJournal = errors.New("no event journal")

// Files reads a journal that another program writes, or wrote: one of its files, or the
// directory with all of them. It may be a copy, of a machine that does not run any more.
// The zero value does not read. One goroutine may use it.
type Files struct {
	path string
	read map[string]int64 // bytes taken of each file
}

// OpenFiles looks at path, which is a regular file or a directory.
func OpenFiles(path string) (*Files, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open event journal: %w", err)
	}
	if !st.IsDir() && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open event journal: %s is no file and no directory: %w", path, ErrNoJournal)
	}
	return &Files{path: path, read: map[string]int64{}}, nil
}

// Next returns the rows that were written since the last call, in the order of the files,
// and how many could not be read. A row whose end is not written yet comes later. It is
// ErrNoJournal if the first call finds something, and nothing of it is a row.
func (f *Files) Next() (rows []Event, damaged int, err error) {
	names, err := f.names()
	if err != nil {
		return nil, 0, err
	}
	first, some := len(f.read) == 0, false
	read := make(map[string]int64, len(names))
	for _, name := range names {
		data, from, err := readFrom(name, f.read[name])
		if errors.Is(err, fs.ErrNotExist) && len(names) > 1 { // the oldest goes first
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read event journal: %w", err)
		}
		some = some || len(data) > 0
		data = data[:bytes.LastIndexByte(data, '\n')+1]
		read[name] = from + int64(len(data))
		got, bad := decodeRows(data)
		rows, damaged = append(rows, got...), damaged+bad
	}
	f.read = read
	if first && some && len(rows) == 0 {
		return nil, damaged, fmt.Errorf("read event journal: %s: %w", f.path, ErrNoJournal)
	}
	return rows, damaged, nil
}

// names are the files to read, the oldest first.
func (f *Files) names() ([]string, error) {
	st, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("read event journal: %w", err)
	}
	if !st.IsDir() {
		return []string{f.path}, nil
	}
	j := journal{dir: f.path}
	numbers, err := j.numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("read event journal: %s has no file events-*.log: %w", filepath.Clean(f.path), ErrNoJournal)
	}
	names := make([]string, len(numbers))
	for i, n := range numbers {
		names[i] = j.path(n)
	}
	return names, nil
}

// readFrom reads a file behind the first bytes of it, at most maxFileBytes, and from the
// beginning if it has become shorter. from is where it began.
func readFrom(name string, skip int64) (data []byte, from int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if st.Size() < skip {
		skip = 0
	}
	data, err = io.ReadAll(io.NewSectionReader(f, skip, min(st.Size()-skip, maxFileBytes)))
	return data, skip, err
}
