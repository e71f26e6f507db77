// Package failover holds the stories of takeover, failback and return: real daemons in
// namespaces of their own on one segment. There is nothing in it but tests.
package failover
