package testnode

import (
	"fmt"
	"os"
	"sync/atomic"
)

var loopbacks atomic.Uint32

// Loopback is an address of this machine, below 127.16.0.0/12, that no other call in this
// process gave. A daemon that is killed finds its port free there: ports of 127.0.0.1 are
// taken by whatever connects meanwhile, and by tests that run beside this one.
func Loopback() string {
	n, pid := loopbacks.Add(1), os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 16+n>>8&15, n&255, 1+pid%254)
}
