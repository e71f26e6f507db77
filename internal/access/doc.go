// Package access knows who may come in: the identity of this machine, the machines it is
// paired with, the keys of scripts, open invitations, and who failed to log in.
//
// A machine is known by the public key of its TLS certificate, which is Ed25519, made at
// the first start and signed by itself. Peers pin each other's key when they are paired;
// names, dates and issuers in certificates mean nothing and are not looked at.
//
// Order of a pairing: one machine makes a Code, which holds a random secret and a digest
// of its own key. The other connects, compares the key it meets with the digest, and only
// then says the secret; so a man in the middle learns nothing, and the connection's
// client certificate is the one that becomes known. A code works once.
package access
