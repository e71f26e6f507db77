package access

import "errors"

// PairUp makes two machines know each other without a code: for machines of one process,
// whose owner can reach both keyrings.
func PairUp(a, b *Keyring, addressA, addressB string) error {
	return errors.Join(a.AddPeer(b.name, addressB, b.Key()), b.AddPeer(a.name, addressA, a.Key()))
}
