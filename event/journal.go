package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A journal is a series of files events-1.log, events-2.log ... of rows: eight
// hexadecimal digits of CRC32C, a blank, the event as JSON, a newline. When a file is
// full the next one is begun and the oldest beyond maxFiles is deleted.

const (
	defaultFileBytes = 1 << 20  // MaxLogFileSize
	defaultFiles     = 5        // MaxNumberofLogFiles
	maxArg           = 1 << 10  // bytes kept of one argument
	maxRow           = 64 << 10 // four arguments, twice each, every byte escaped
	maxFileBytes     = 16 << 20 // read of one file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is not safe for concurrent use.
type journal struct {
	dir       string
	fileBytes int64
	files     int
	cur       *os.File
	number    int // of cur
	size      int64
}

// openJournal begins to write behind what is there. It returns the rows that are left,
// oldest first, and how many could not be read.
func openJournal(dir string, fileBytes int64, files int) (j *journal, rows []Event, damaged int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, 0, fmt.Errorf("make event directory: %w", err)
	}
	j = &journal{dir: dir, fileBytes: fileBytes, files: files}
	rows, damaged, err = j.read(0)
	if err != nil {
		return nil, nil, 0, err
	}
	numbers, err := j.numbers()
	if err != nil {
		return nil, nil, 0, err
	}
	j.number = 1
	if len(numbers) > 0 {
		j.number = numbers[len(numbers)-1]
	}
	return j, rows, damaged, j.open()
}

func (j *journal) path(n int) string { return filepath.Join(j.dir, fmt.Sprintf("events-%d.log", n)) }

// numbers lists the files of the series, oldest first.
func (j *journal) numbers() ([]int, error) {
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("read event directory: %w", err)
	}
	var out []int
	for _, e := range names {
		rest, ok := strings.CutPrefix(e.Name(), "events-")
		rest, ok2 := strings.CutSuffix(rest, ".log")
		n, err := strconv.Atoi(rest)
		if ok && ok2 && err == nil && n > 0 && e.Type().IsRegular() {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// open opens the current file; a torn last row is ended, so that only it is lost.
func (j *journal) open() error {
	f, err := os.OpenFile(j.path(j.number), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open event journal: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open event journal: %w", err)
	}
	j.cur, j.size = f, st.Size()
	last := make([]byte, 1)
	if j.size > 0 {
		if _, err := f.ReadAt(last, j.size-1); err != nil || last[0] != '\n' {
			return j.put([]byte{'\n'})
		}
	}
	return nil
}

func (j *journal) put(b []byte) error {
	n, err := j.cur.Write(b)
	j.size += int64(n)
	if err != nil {
		return fmt.Errorf("write event journal: %w", err)
	}
	return nil
}

// append writes one row. What it wrote survives the death of the process. After an
// error a later row is tried again, behind a newline.
func (j *journal) append(e Event) error {
	if j.cur == nil || j.size >= j.fileBytes {
		if err := j.next(); err != nil {
			return err
		}
	}
	row, err := encodeRow(e)
	if err != nil {
		return err
	}
	if err := j.put(row); err != nil {
		_ = j.put([]byte{'\n'}) // ends what was half written, if there is space
		return err
	}
	return nil
}

// next begins the next file and deletes the oldest beyond the limit.
func (j *journal) next() error {
	if j.cur != nil {
		err := j.cur.Close()
		j.cur = nil
		j.number++
		if err != nil {
			return fmt.Errorf("close event journal: %w", err)
		}
	}
	if err := j.open(); err != nil {
		return err
	}
	numbers, err := j.numbers()
	for err == nil && len(numbers) > j.files {
		err = os.Remove(j.path(numbers[0])) // what cannot be removed is tried again next time
		numbers = numbers[1:]
	}
	return err
}

func (j *journal) close() error {
	if j.cur == nil {
		return nil
	}
	err := errors.Join(j.cur.Sync(), j.cur.Close())
	j.cur = nil
	return err
}

// read returns the rows after since, oldest first, and how many could not be read. It
// may run beside the other methods.
func (j *journal) read(since uint64) (rows []Event, damaged int, err error) {
	numbers, err := j.numbers()
	if err != nil {
		return nil, 0, err
	}
	for _, n := range numbers {
		data, err := readSome(j.path(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			damaged++ // the others may be readable
			continue
		}
		got, bad := decodeRows(data)
		damaged += bad
		for _, e := range got {
			if e.Seq > since {
				rows = append(rows, e)
			}
		}
	}
	return rows, damaged, nil
}

// readSome reads a file, at most maxFileBytes of it.
func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes))
}

func encodeRow(e Event) ([]byte, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(raw, castagnoli), raw), nil
}

// decodeRows reads what is whole in data and counts what is not.
func decodeRows(data []byte) (rows []Event, damaged int) {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if len(line) == 0 {
			continue
		}
		e, err := decodeRow(line)
		if err != nil {
			damaged++
			continue
		}
		rows = append(rows, e)
	}
	return rows, damaged
}

var errRow = errors.New("damaged row")

func decodeRow(line []byte) (e Event, err error) {
	if len(line) < 10 || len(line) > maxRow || line[8] != ' ' {
		return e, errRow
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[9:], castagnoli) {
		return e, errRow
	}
	if err := json.Unmarshal(line[9:], &e); err != nil {
		return e, fmt.Errorf("%w: %w", errRow, err)
	}
	return e, nil
}
