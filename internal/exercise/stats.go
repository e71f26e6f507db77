package exercise

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats counts what was done.
type Stats struct {
	Ops    int            // system calls that succeeded
	Done   map[string]int // the same by kind
	Failed map[string]int // refused as may happen, by kind and error
}

func newStats() Stats { return Stats{Done: map[string]int{}, Failed: map[string]int{}} }

func (s *Stats) merge(o Stats) {
	s.Ops += o.Ops
	for k, n := range o.Done {
		s.Done[k] += n
	}
	for k, n := range o.Failed {
		s.Failed[k] += n
	}
}

// String shows the counts in one line each for success and refusal.
func (s Stats) String() string {
	show := func(m map[string]int) string {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%d done: %s\nrefused: %s", s.Ops, show(s.Done), show(s.Failed))
}

// usual errors of a call on names chosen at random beside other workers.
var usual = []error{unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY,
	unix.ELOOP, unix.EACCES, unix.EPERM, unix.EMLINK, unix.ENAMETOOLONG}

// unusual errors that some kinds of call may give besides.
var unusual = map[string][]error{
	"fallocate":   {unix.EOPNOTSUPP, unix.EINVAL, unix.ENODEV, unix.EFBIG, unix.ESPIPE},
	"copy-range":  {unix.EINVAL, unix.EOPNOTSUPP, unix.EXDEV},
	"rename":      {unix.EINVAL, unix.EBUSY},
	"exchange":    {unix.EINVAL, unix.EBUSY},
	"noreplace":   {unix.EINVAL, unix.EBUSY},
	"whiteout":    {unix.EINVAL, unix.EBUSY},
	"mknod":       {unix.EINVAL},
	"setxattr":    {unix.EOPNOTSUPP, unix.ENODATA, unix.ENOSPC, unix.E2BIG, unix.ERANGE},
	"removexattr": {unix.EOPNOTSUPP, unix.ENODATA},
	"acl":         {unix.EOPNOTSUPP, unix.EINVAL, unix.ENODATA, unix.ENOSPC},
	"tmpfile":     {unix.EOPNOTSUPP},
	"open":        {unix.ENXIO, unix.ETXTBSY},
	"create":      {unix.ENXIO}, // a socket took the place of the file meanwhile
	"unlink":      {unix.ENXIO},
	"truncate":    {unix.EINVAL, unix.ENXIO, unix.ETXTBSY},
	"chmod":       {unix.EOPNOTSUPP},
	"readdir":     {unix.ENXIO}, // and of the directory
}

// expected says whether err may come from a call of this kind.
func expected(kind string, err error) bool {
	is := func(e error) bool { return errors.Is(err, e) }
	return slices.ContainsFunc(usual, is) || slices.ContainsFunc(unusual[kind], is)
}

// errName is the error as the manual pages call it, for counting.
func errName(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// trace remembers the last calls, for the error message.
type trace struct {
	lines [40]string
	n     int
}

func (t *trace) add(format string, args ...any) {
	t.lines[t.n%len(t.lines)] = fmt.Sprintf("%d: ", t.n) + fmt.Sprintf(format, args...)
	t.n++
}

// wrap adds the last calls to err.
func (t *trace) wrap(err error) error {
	var b strings.Builder
	for i := max(0, t.n-len(t.lines)); i < t.n; i++ {
		b.WriteString("\n\t" + t.lines[i%len(t.lines)])
	}
	return fmt.Errorf("%w; the last calls were%s", err, b.String())
}

// retry repeats a call that a signal interrupted (the Go runtime sends itself many).
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func newRand(seed int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 0)) }
