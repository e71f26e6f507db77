package node

import (
	"os"

	"understudy/capture/holder"
)

// A daemon of this test program that is told to hold starts this program again as its
// holder.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "holder" {
		os.Exit(holder.Main(os.Args[2:]))
	}
}
