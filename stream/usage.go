package stream

import (
	"context"
	"fmt"
)

// SetLimits changes MaxBytes and MemoryMax of an open journal; 0 is as in JournalConfig.
// The limit on disk counts within a second, and no stored frame is dropped for it.
func (j *Journal) SetLimits(maxBytes, memoryMax int64) error {
	if memoryMax <= 0 {
		memoryMax = DefaultMemoryMax
	}
	j.memoryMax.Store(memoryMax)
	return j.st.setMax(maxBytes)
}

// SetLimit changes MaxBytes of an open receiver, as SetLimits does of a journal.
func (r *Receiver) SetLimit(maxBytes int64) error { return r.st.setMax(maxBytes) }

// Usage is what T holds on disk and what it may hold, in bytes. It asks the store, which
// takes well under a millisecond.
func (r *Receiver) Usage(ctx context.Context) (used, limit int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	info, err := r.st.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("size of the target queue: %w", storeError(err))
	}
	return int64(info.State.Bytes), r.st.mayHold(), nil
}
