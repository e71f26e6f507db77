package checked

import (
	"bytes"
	"testing"
)

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	for _, msg := range []string{"", "x", `{"applied":12}`} {
		b := Seal([]byte(msg))
		if got, err := Open(b); err != nil || !bytes.Equal(got, []byte(msg)) {
			t.Fatalf("%q: %q, %v", msg, got, err)
		}
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := Open(b); err == nil {
				t.Errorf("%q: bit %d flipped, and nothing noticed", msg, bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
	if _, err := Open([]byte("abc")); err == nil {
		t.Error("three bytes were opened")
	}
}
