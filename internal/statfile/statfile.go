// Package statfile keeps statistics in a file of bounded size: one record a line, its
// checksum (CRC32C, 8 hexadecimal digits), a blank, and the record as JSON. So the file
// survives a kill in the midst of a line, and what is damaged is left out when it is read.
//
// When half of the size is reached the file is renamed to NAME.1, in place of the one
// before, and begun anew: at most the newest half to whole of the size is kept.
package statfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"strconv"
)

// maxRecord bounds a record in bytes.
const maxRecord = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Line is a record as it stands in the file. record has no line's end.
func Line(record []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(record, castagnoli), record)
}

// Append writes records to the file at path, beginning it anew where it would grow beyond
// half of most bytes. All of them are on disk when it returns. One caller at a time.
func Append(path string, records [][]byte, most int64) error {
	var all bytes.Buffer
	for _, r := range records {
		line := Line(r)
		if st, err := os.Stat(path); err == nil && st.Size()+int64(all.Len()+len(line)) > most/2 {
			if err := flush(path, &all); err != nil {
				return err
			}
			if err := os.Rename(path, path+".1"); err != nil {
				return fmt.Errorf("begin statistics anew: %w", err)
			}
		}
		all.Write(line)
	}
	return flush(path, &all)
}

func flush(path string, b *bytes.Buffer) error {
	if b.Len() == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	_, err = b.WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	return nil
}

// SetAside makes room for a new file: what is there becomes old, or goes if old is "".
func SetAside(path, old string) error {
	err := os.Remove(path + ".1")
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		if old == "" {
			err = os.Remove(path)
		} else {
			err = os.Rename(path, old)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set statistics aside: %w", err)
	}
	return nil
}

// Read gives the records of the file at path, oldest first, and what of it was damaged
// and left out, in lines. A file that cannot be read is an error.
func Read(path string) (records iter.Seq[[]byte], damaged *int, err error) {
	var readers []io.Reader
	for _, name := range []string{path + ".1", path} {
		raw, err := os.ReadFile(name) // its size is bounded
		if errors.Is(err, fs.ErrNotExist) && name != path {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read statistics: %w", err)
		}
		readers = append(readers, bytes.NewReader(raw), bytes.NewReader([]byte("\n")))
	}
	damaged = new(int)
	return func(yield func([]byte) bool) {
		*damaged = 0
		s := bufio.NewScanner(io.MultiReader(readers...))
		s.Buffer(nil, maxRecord)
		for s.Scan() {
			record, ok := parse(s.Bytes())
			if !ok {
				if len(s.Bytes()) > 0 {
					*damaged++
				}
				continue
			}
			if !yield(record) {
				return
			}
		}
		if s.Err() != nil { // a line without an end
			*damaged++
		}
	}, damaged, nil
}

func parse(line []byte) ([]byte, bool) {
	if len(line) < 10 || line[8] != ' ' {
		return nil, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	return line[9:], err == nil && crc32.Checksum(line[9:], castagnoli) == uint32(sum)
}
