package stacked

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/model"
)

// recLog is a sink that outlives its process: records in a mapped file, each committed
// by one store of the head.
type recLog struct {
	mu     sync.Mutex
	mem    []byte
	tokens map[uint64]bool
}

const recLogSize = 2 << 30

func openRecLog(path string) (*recLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(recLogSize); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, recLogSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	l := &recLog{mem: mem, tokens: map[uint64]bool{}}
	return l, l.each(func(token uint64, _ *fileop.Op) error { l.tokens[token] = true; return nil })
}

// head is the number of bytes and of records.
func (l *recLog) head() *atomic.Uint64  { return (*atomic.Uint64)(unsafe.Pointer(&l.mem[0])) }
func (l *recLog) count() *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&l.mem[8])) }

func (l *recLog) Put(op *fileop.Op) {
	b := fileop.NewBuilder(fileop.LaneQueue, 1, 1, 0)
	b.Add(fileop.AppendRecord(nil, op), 0)
	_, _, frame := b.Finish()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.head().Load() + 16
	binary.LittleEndian.PutUint64(l.mem[at:], uint64(len(frame)))
	binary.LittleEndian.PutUint64(l.mem[at+8:], op.Token)
	copy(l.mem[at+16:], frame)
	l.head().Store((at+16+uint64(len(frame))+7)&^7 - 16)
	l.count().Add(1)
	failPoint("after put")
}

func (l *recLog) Pace() time.Duration { return 0 }

func (l *recLog) Logged(token uint64) bool { return l.tokens[token] }

func (l *recLog) each(visit func(token uint64, op *fileop.Op) error) error {
	end := l.head().Load() + 16
	for at := uint64(16); at < end; {
		size := binary.LittleEndian.Uint64(l.mem[at:])
		f, err := fileop.ParseFrame(l.mem[at+16 : at+16+size])
		if err != nil {
			return fmt.Errorf("record at %d: %w", at, err)
		}
		r := f.Records()
		var op fileop.Op
		if ok, err := r.Next(&op); !ok || err != nil {
			return fmt.Errorf("record at %d: %v, %w", at, ok, err)
		}
		if err := visit(binary.LittleEndian.Uint64(l.mem[at+8:]), &op); err != nil {
			return err
		}
		at = (at + 16 + size + 7) &^ 7
	}
	return nil
}

// replay executes the record in a model that begins with an empty root. doubled are
// operations put twice, unknown those on objects never created.
func (l *recLog) replay(root fileop.ObjID) (m *model.Model, doubled, unknown []string, err error) {
	m = model.New(root)
	seen, created := map[uint64]bool{}, map[fileop.ObjID]bool{root: true}
	err = l.each(func(token uint64, op *fileop.Op) error {
		if token != 0 && seen[token] {
			doubled = append(doubled, fmt.Sprintf("%v %s", op.Kind, op.Path))
		}
		seen[token] = true
		switch op.Kind {
		case fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink:
			created[op.Obj] = true
		}
		if !created[op.Obj] {
			unknown = append(unknown, fmt.Sprintf("%v %s", op.Kind, op.Path))
		}
		return m.Apply(op)
	})
	return m, doubled, unknown, err
}
