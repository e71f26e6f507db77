package exercise

import "golang.org/x/sys/unix"

// rename is renameat2 with flags, of files and directories alike.
func rename(flags uint) func(w *worker) error {
	return func(w *worker) error {
		if flags == unix.RENAME_WHITEOUT && (w.opt.NoWhiteout || w.opt.NoSpecial) {
			return errSkip
		}
		from, ok := w.world.file(w.r)
		if w.r.IntN(4) == 0 {
			from, ok = w.world.subdir(w.r)
		}
		if !ok {
			return errSkip
		}
		to := w.world.fresh(w.r)
		if exists := w.world.any(w.r); flags == unix.RENAME_EXCHANGE || w.r.IntN(3) == 0 {
			to = exists
		}
		if to == "" {
			return errSkip
		}
		w.trace.add("rename %q to %q flags %d", from, to, flags)
		err := retry(func() error {
			return unix.Renameat2(unix.AT_FDCWD, w.world.abs(from), unix.AT_FDCWD, w.world.abs(to), flags)
		})
		w.renamed(from, to, flags, err)
		return err
	}
}

func (w *worker) renamed(from, to string, flags uint, err error) {
	switch {
	case err != nil:
		w.forget(from, err)
	case flags == unix.RENAME_EXCHANGE:
		w.world.exchange(from, to)
	default:
		w.world.move(from, to)
		if flags == unix.RENAME_WHITEOUT {
			w.world.addFile(from)
		}
	}
}
