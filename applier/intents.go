package applier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// An intent is a word, written before names on the target change, of what is about to
// change: by it a restart knows the names this applier made, whatever lane or epoch made
// them, and puts back exactly those. What it does not name is somebody else's.
//
// Intents are appended to a file with write(2) and not synced: that outlives a killed
// process. After a power cut some may be missing, so then all names are compared instead
// (rewind.full). A checkpoint makes those before it superfluous; it begins a new
// generation in another file, and the old file is used again when the checkpoint is
// durable. What a generation takes is bounded by what a checkpoint may hold back
// (maxDirty names, twice, of about 120 bytes each).
type intent struct {
	tree   uint32
	flags  uint8
	objs   [2]fileop.ObjID // source objects whose names change
	places [2]place        // where; a place without parent and name is none
	ident  fileop.ObjID    // with intentAdopt: the target's directory
}

const (
	intentTree  = 1 << iota // with everything below the object
	intentAdopt             // no name changes: objs[0] is now the leftover directory ident
)

// intentFile holds one generation.
type intentFile struct {
	f   *os.File
	gen uint64
}

// intentLog is used by the deciding goroutine alone.
type intentLog struct {
	dir   string
	files []*intentFile
	cur   *intentFile
	size  int64  // of cur
	keep  uint64 // generations from this one on are needed
	buf   []byte
	last  []byte // the last record of cur: a retry writes none again
}

const (
	intentMagic  = "UNDINT1\n"
	intentHeader = len(intentMagic) + 8 + 4 // magic, generation, CRC32C of both
	recordHeader = 4 + 4                    // length and CRC32C of the record
	maxIntent    = 4096                     // two names of 255 bytes and eight numbers are far below
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openIntents opens the files of a state directory; needed is the first generation whose
// intents no checkpoint has made superfluous.
func openIntents(dir string, needed uint64) (*intentLog, error) {
	l := &intentLog{dir: dir, keep: needed}
	names, err := filepath.Glob(filepath.Join(dir, "intents-*"))
	if err != nil {
		return nil, fmt.Errorf("find intents: %w", err)
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("open intents: %w", err)
		}
		l.files = append(l.files, &intentFile{f: f, gen: readIntentHeader(f)})
	}
	return l, nil
}

// readIntentHeader is the generation a file holds, 0 if none.
func readIntentHeader(f *os.File) uint64 {
	var h [intentHeader]byte
	if _, err := f.ReadAt(h[:], 0); err != nil || string(h[:len(intentMagic)]) != intentMagic {
		return 0
	}
	body, sum := h[:intentHeader-4], binary.LittleEndian.Uint32(h[intentHeader-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return 0
	}
	return binary.LittleEndian.Uint64(body[len(intentMagic):])
}

// begin starts the generation after all others and returns its number. If there is no
// room for its file, the present one goes on, which is only less thrifty.
func (l *intentLog) begin() (uint64, error) {
	gen := l.keep
	for _, f := range l.files {
		gen = max(gen, f.gen)
	}
	gen++
	f, err := l.unused()
	if err == nil {
		err = f.restart(gen)
	}
	if err != nil {
		if l.cur == nil {
			return 0, fmt.Errorf("begin intents: %w", err)
		}
		return l.cur.gen, nil
	}
	l.cur, l.size, l.last = f, int64(intentHeader), l.last[:0]
	return gen, nil
}

// unused finds a file whose generation is not needed, or makes one.
func (l *intentLog) unused() (*intentFile, error) {
	for _, f := range l.files {
		if f.gen < l.keep && f != l.cur {
			return f, nil
		}
	}
	name := filepath.Join(l.dir, fmt.Sprintf("intents-%d", len(l.files)))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, &intentFile{f: f})
	return l.files[len(l.files)-1], nil
}

// restart empties the file and gives it a generation.
func (f *intentFile) restart(gen uint64) error {
	if err := f.f.Truncate(0); err != nil {
		return err
	}
	f.gen = 0
	h := binary.LittleEndian.AppendUint64([]byte(intentMagic), gen)
	h = binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	if _, err := f.f.WriteAt(h, 0); err != nil {
		return err
	}
	f.gen = gen
	return nil
}

// durable says that the intents of generations before gen are superfluous.
func (l *intentLog) durable(gen uint64) { l.keep = max(l.keep, gen) }

// write appends an intent. It has the kernel's word that it will be found after a kill.
func (l *intentLog) write(in *intent) error {
	l.buf = append(l.buf[:0], make([]byte, recordHeader)...)
	l.buf = in.append(l.buf)
	body := l.buf[recordHeader:]
	if bytes.Equal(body, l.last) {
		return nil
	}
	binary.LittleEndian.PutUint32(l.buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(l.buf[4:], crc32.Checksum(body, castagnoli))
	if _, err := l.cur.f.WriteAt(l.buf, l.size); err != nil {
		return fmt.Errorf("write down what is about to change: %w", err)
	}
	l.size += int64(len(l.buf))
	l.last = append(l.last[:0], body...)
	return nil
}

// read gives all intents of needed generations, and whether the first of them is there.
// A record that is not whole ends its file: what it was to announce did not happen.
func (l *intentLog) read(each func(*intent)) (complete bool, err error) {
	files := slices.Clone(l.files)
	slices.SortFunc(files, func(a, b *intentFile) int { return int(int64(a.gen - b.gen)) })
	for _, f := range files {
		if f.gen == 0 || f.gen < l.keep {
			continue
		}
		complete = complete || f.gen == l.keep
		b, err := io.ReadAll(io.NewSectionReader(f.f, int64(intentHeader), 1<<40))
		if err != nil {
			return false, fmt.Errorf("read intents: %w", err)
		}
		for len(b) > recordHeader {
			n, sum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
			if n > maxIntent || int(n) > len(b)-recordHeader {
				break
			}
			body := b[recordHeader : recordHeader+int(n)]
			var in intent
			if crc32.Checksum(body, castagnoli) != sum || !in.parse(body) {
				break
			}
			each(&in)
			b = b[recordHeader+int(n):]
		}
	}
	return complete, nil
}

func (l *intentLog) close() {
	for _, f := range l.files {
		f.f.Close()
	}
}

func (in *intent) append(b []byte) []byte {
	b = append(b, in.flags)
	b = binary.BigEndian.AppendUint32(b, in.tree)
	b = appendID(b, in.objs[0])
	b = appendID(b, in.objs[1])
	b = appendID(b, in.ident)
	for _, p := range in.places {
		b = appendID(b, p.parent)
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.name)))
		b = append(b, p.name...)
	}
	return b
}

// parse is the inverse of append; false for any other bytes.
func (in *intent) parse(b []byte) bool {
	if len(b) < 5+3*16 {
		return false
	}
	in.flags, in.tree = b[0], binary.BigEndian.Uint32(b[1:])
	in.objs[0], in.objs[1], in.ident = parseID(b[5:]), parseID(b[21:]), parseID(b[37:])
	b = b[53:]
	for i := range in.places {
		if len(b) < 18 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b[16:]))
		if len(b) < 18+n {
			return false
		}
		in.places[i] = place{parseID(b), string(b[18 : 18+n])}
		b = b[18+n:]
	}
	return len(b) == 0
}

// intend writes down what is about to change.
func (a *Applier) intend(t *tree, flags uint8, objs [2]fileop.ObjID, places ...place) error {
	if a.cfg.NoSync || failpoint.Planted(failpoint.PlantNoIntent) {
		return nil
	}
	in := intent{tree: t.Tree, flags: flags, objs: objs}
	copy(in.places[:], places)
	return a.intents.write(&in)
}

// adopted writes down that a leftover directory is now a known object: a restart finds
// by it the names made inside.
func (a *Applier) adopted(t *tree, id, ident fileop.ObjID) error {
	if a.cfg.NoSync {
		return nil
	}
	return a.intents.write(&intent{tree: t.Tree, flags: intentAdopt, objs: [2]fileop.ObjID{id}, ident: ident})
}

// free reports whether nothing is at name, so that what is made there is ours.
func (a *Applier) free(pfd int, name string) (bool, error) {
	_, err := a.at.Stat(pfd, name)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	return false, err
}
