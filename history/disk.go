package history

import (
	"encoding/json"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"

	"understudy/internal/atomicfile"
)

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// writeBoth writes a head and its body in one call, so that records are rarely torn.
func writeBoth(f *os.File, head, body []byte) error {
	n, err := unix.Writev(int(f.Fd()), [][]byte{head, body})
	for err == unix.EINTR {
		n, err = unix.Writev(int(f.Fd()), [][]byte{head, body})
	}
	if err != nil {
		return err
	}
	rest := append(head[min(n, len(head)):len(head):len(head)], body[max(0, n-len(head)):]...)
	if n == len(head)+len(body) {
		return nil
	}
	_, err = f.Write(rest)
	return err
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(raw, '\n'), 0o600)
}

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
