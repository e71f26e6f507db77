package access

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"hash/crc32"
	"strings"
)

// Code is what an operator carries from one machine to another, once.
//
//	| secret 8 bytes | pin 16 bytes | check 1 byte |
//
// in base32, eight groups of five letters. The secret can be guessed only at the door,
// which lets few try; the pin is long enough that nobody makes a key to fit it.
type Code struct {
	Secret [8]byte  // says that whoever knows it was invited
	Pin    [16]byte // the beginning of the inviting machine's Fingerprint
}

// ErrCode: the text is no code of a pairing.
var ErrCode = errors.New("not the code of an invitation, or mistyped")

const codeBytes = 8 + 16 + 1

var codeText = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewCode makes a code for the machine with this key.
func NewCode(key Fingerprint) Code {
	var c Code
	rand.Read(c.Secret[:])
	copy(c.Pin[:], key[:])
	return c
}

func (c Code) String() string {
	b := append(append(make([]byte, 0, codeBytes), c.Secret[:]...), c.Pin[:]...)
	text := codeText.EncodeToString(append(b, byte(crc32.ChecksumIEEE(b))))
	var groups []string
	for ; text != ""; text = text[5:] {
		groups = append(groups, text[:5])
	}
	return strings.Join(groups, "-")
}

// ParseCode reads what String wrote, in any case, with any blanks and dashes.
func ParseCode(text string) (Code, error) {
	if len(text) > 200 {
		return Code{}, ErrCode
	}
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune("- \t\r\n", r) {
			return -1
		}
		return r
	}, strings.ToUpper(text))
	b, err := codeText.DecodeString(text)
	if err != nil || len(b) != codeBytes || byte(crc32.ChecksumIEEE(b[:codeBytes-1])) != b[codeBytes-1] {
		return Code{}, ErrCode
	}
	var c Code
	copy(c.Secret[:], b)
	copy(c.Pin[:], b[len(c.Secret):])
	return c, nil
}

// Fits reports whether the code was made by the machine with this key.
func (c Code) Fits(key Fingerprint) bool { return bytes.Equal(c.Pin[:], key[:len(c.Pin)]) }

// Password is the secret as it is said at the door.
func (c Code) Password() string { return codeText.EncodeToString(c.Secret[:]) }
