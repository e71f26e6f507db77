package stacked

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/capture/holder"
)

const (
	// maxServing bounds the requests served at the same time, and so their memory: each
	// has a buffer of maxRequest, of which it touches what it needs.
	maxServing = 256
	// maxReaders is how many wait in the kernel for a request, at least 2.
	maxReaders = 16
	// requestBytes is the kernel's condition on the buffer of a reader: the largest write
	// and its headers.
	requestBytes = maxRequest + 4096
	// replyBytes is room for any answer without a payload.
	replyBytes = 1024
)

// device reads requests from the kernel and writes the answers. go-fuse's Server does
// that too, but insists on greeting the kernel itself, and does not say when an answer
// was written.
type device struct {
	file     *os.File
	fd       int
	protocol *fuse.ProtocolServer
	fs       *fileSystem
	log      *slog.Logger
	progress *holder.Progress
	max      int // readers

	mu      sync.Mutex
	idle    *sync.Cond // busy became 0
	readers int        // waiting for a request; guarded by mu
	loops   int        // readers and those who serve; guarded by mu
	busy    int        // requests being served; guarded by mu
	paused  bool       // guarded by mu: nothing is served any more
	err     error      // why reading ended; guarded by mu
	ended   sync.WaitGroup

	in  buffers
	out sync.Pool // of requestBytes
}

func newDevice(file *os.File, fs *fileSystem, opts *fuse.MountOptions, log *slog.Logger) *device {
	d := &device{file: file, fd: int(file.Fd()), fs: fs, log: log, protocol: fuse.NewProtocolServer(fs, opts),
		max: min(max(runtime.GOMAXPROCS(0), 2), maxReaders), progress: &holder.Progress{}}
	d.idle = sync.NewCond(&d.mu)
	d.out.New = func() any { b := make([]byte, requestBytes); return &b }
	fs.notify = d.notify
	return d
}

// greet answers the kernel's first request and returns both.
func (d *device) greet() (hello, answer []byte, err error) {
	buf := make([]byte, requestBytes)
	n, err := noEINTR(func() (int, error) { return unix.Read(d.fd, buf) })
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel's greeting: %w", err)
	}
	hello = append(hello, buf[:n]...)
	answer, err = d.agree(hello)
	return hello, answer, err
}

// agree makes the answer to a greeting, and the protocol server know what it agreed to.
func (d *device) agree(hello []byte) ([]byte, error) {
	answer := make([]byte, replyBytes)
	n, st := d.protocol.HandleRequest([][]byte{hello}, [][]byte{answer})
	if !st.Ok() || n < outHeaderSize || binary.NativeEndian.Uint32(answer[4:]) != 0 {
		return nil, fmt.Errorf("kernel speaks another FUSE protocol: %v", st)
	}
	return answer[:n], nil
}

// serve reads and answers requests until the connection ends. It may be called once.
func (d *device) serve() error {
	d.mu.Lock()
	d.add()
	d.mu.Unlock()
	d.ended.Wait()
	d.in.drop()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// add starts a loop. Under mu.
func (d *device) add() {
	d.loops++
	d.readers++
	d.ended.Add(1)
	go d.loop()
}

// loop serves one request after the other. Whoever is the last to wait for one starts
// another loop before it serves what it got; if then enough wait, it ends.
func (d *device) loop() {
	defer d.ended.Done()
	in, err := d.in.get()
	if err != nil {
		d.took(err)
		return
	}
	defer d.in.put(in)
	small := make([]byte, replyBytes)
	for {
		n, err := d.read(in)
		if !d.took(err) {
			return
		}
		d.answer(in[:n], small)
		if !d.again() {
			return
		}
	}
}

func (d *device) read(buf []byte) (int, error) {
	for {
		n, err := unix.Read(d.fd, buf)
		if err != unix.EINTR && err != unix.ENOENT && err != unix.EAGAIN { // ENOENT: it was interrupted meanwhile
			return n, err
		}
	}
}

// took accounts for a request read. It reports false if the loop is to end.
func (d *device) took(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers--
	switch {
	case err != nil:
		if d.loops--; d.err == nil && !errors.Is(err, unix.ENODEV) { // ENODEV: unmounted
			d.err = err
		}
		return false
	case d.paused:
		d.mu.Unlock()
		select {} // the request stays unanswered: a process after this one gets it again
	}
	d.progress.Taken.Add(1)
	d.busy++
	if d.readers == 0 {
		if d.loops < maxServing {
			d.add()
		} else {
			d.progress.Full.Store(1)
		}
	}
	return true
}

// again accounts for a request served, and reports whether the loop is to read another.
func (d *device) again() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy--; d.busy == 0 {
		d.idle.Broadcast()
	}
	if d.readers >= d.max || d.err != nil {
		d.loops--
		return false
	}
	d.readers++
	d.progress.Full.Store(0)
	return true
}

// pause stops serving and waits until what is being served is answered. What the kernel
// sends from now on stays unanswered, and readers stay where they are, until the process
// ends.
func (d *device) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = true
	for d.busy > 0 {
		d.idle.Wait()
	}
	d.progress.Serving.Store(0)
}

// Parts of requests and answers (struct fuse_in_header, fuse_out_header, fuse_read_in,
// fuse_getxattr_in of the kernel's include/uapi/linux/fuse.h).
const (
	inHeaderSize  = 40
	outHeaderSize = 16
)

func unique(in []byte) uint64 { return binary.NativeEndian.Uint64(in[8:]) }

// room is how many bytes the answer to a request may have.
func room(in []byte) int {
	switch binary.NativeEndian.Uint32(in[4:]) {
	case 15, 28, 44: // READ, READDIR, READDIRPLUS
		if len(in) >= inHeaderSize+20 {
			return replyBytes + int(binary.NativeEndian.Uint32(in[inHeaderSize+16:]))
		}
	case 22, 23: // GETXATTR, LISTXATTR
		if len(in) >= inHeaderSize+4 {
			return replyBytes + int(binary.NativeEndian.Uint32(in[inHeaderSize:]))
		}
	case 39: // IOCTL
		return requestBytes
	}
	return replyBytes
}

// answer serves one request. small is room for an answer without a payload.
func (d *device) answer(in, small []byte) {
	if len(in) < inHeaderSize {
		d.log.Error("request of the kernel is cut", "bytes", len(in))
		d.progress.Answered.Add(1)
		return
	}
	out := small
	if need := room(in); need > len(small) {
		buf := d.out.Get().(*[]byte)
		defer d.out.Put(buf)
		if out = *buf; need > len(out) {
			out = make([]byte, need)
		}
	}
	id := unique(in)
	n, st := d.protocol.HandleRequest([][]byte{in}, [][]byte{out})
	if !st.Ok() {
		n = refusal(out, id, unix.EIO)
	}
	d.fs.reply(id)
	if n > 0 {
		d.write(out[:n], in)
	}
	d.progress.Answered.Add(1) // before anything that could wait: the holder counts with it
	failPoint("after answer")
	d.fs.open.answered(id)
}

// refusal makes an answer that is an error.
func refusal(out []byte, unique uint64, errno syscall.Errno) int {
	binary.NativeEndian.PutUint32(out, outHeaderSize)
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(out[8:], unique)
	return outHeaderSize
}

// write writes an answer. ENOENT: the request is no more; ENODEV: nor is the mount.
func (d *device) write(out, in []byte) {
	_, err := noEINTR(func() (int, error) { return unix.Write(d.fd, out) })
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		d.log.Error("answer not written", "opcode", binary.NativeEndian.Uint32(in[4:]), "err", err)
	}
}

// notify writes a notice, whose failure costs nothing but freshness.
func (d *device) notify(notice []byte) {
	if _, err := noEINTR(func() (int, error) { return unix.Write(d.fd, notice) }); err != nil && !errors.Is(err, unix.ENOENT) {
		d.log.Debug("notice not written", "err", err)
	}
}

// resend has the kernel send again what a process before this one took and did not
// answer. Nothing may have been read before.
func (d *device) resend() error {
	notice := make([]byte, outHeaderSize)
	binary.NativeEndian.PutUint32(notice, outHeaderSize)
	binary.NativeEndian.PutUint32(notice[4:], noticeResend)
	if _, err := noEINTR(func() (int, error) { return unix.Write(d.fd, notice) }); err != nil {
		return fmt.Errorf("have requests sent again: %w", err)
	}
	return nil
}

// Notices (enum fuse_notify_code).
const (
	noticeInvalInode = 2
	noticeResend     = 7
)

// forgetAttributes makes the kernel ask for the attributes of a node again.
func (f *fileSystem) forgetAttributes(node uint64) {
	notice := make([]byte, outHeaderSize+24)
	binary.NativeEndian.PutUint32(notice, uint32(len(notice)))
	binary.NativeEndian.PutUint32(notice[4:], noticeInvalInode)
	binary.NativeEndian.PutUint64(notice[outHeaderSize:], node)
	binary.NativeEndian.PutUint64(notice[outHeaderSize+8:], ^uint64(0)) // offset -1: attributes alone
	f.notify(notice)
}
