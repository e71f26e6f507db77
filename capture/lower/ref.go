package lower

import "understudy/internal/fsx"

// A Ref is one byte of form and its value: a handle (type in four bytes, little
// endian, then the kernel's bytes), a path relative to the root (empty for the root),
// or the path of a place where something else is mounted.
const (
	refByHandle = 'h'
	refByPath   = 'p'
	refMount    = 'm'
)

func handleRef(h fsx.Handle) []byte {
	b := make([]byte, 0, 5+len(h.Bytes))
	b = append(b, refByHandle, byte(h.Type), byte(h.Type>>8), byte(h.Type>>16), byte(h.Type>>24))
	return append(b, h.Bytes...)
}

func pathRef(path string) []byte { return append([]byte{refByPath}, path...) }

func refHandle(ref []byte) (fsx.Handle, bool) {
	if len(ref) < 6 || ref[0] != refByHandle {
		return fsx.Handle{}, false
	}
	typ := int32(ref[1]) | int32(ref[2])<<8 | int32(ref[3])<<16 | int32(ref[4])<<24
	return fsx.Handle{Type: typ, Bytes: ref[5:]}, true
}

func refPath(ref []byte) (string, bool) {
	if len(ref) == 0 || ref[0] != refByPath {
		return "", false
	}
	return string(ref[1:]), true
}

func mountRef(path string) []byte { return append([]byte{refMount}, path...) }

func isMountRef(ref []byte) bool { return len(ref) > 0 && ref[0] == refMount }

// dot is a path as system calls take it, where the root is ".".
func dot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	if name == "" {
		return dir
	}
	return dir + "/" + name
}
