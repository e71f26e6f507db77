package stacked

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// childVar makes the test program an application in a process of its own: it says what
// to do, a colon, and where.
const childVar = "UNDERSTUDY_TEST_CHILD"

func TestMain(m *testing.M) {
	if child := os.Getenv(childVar); child != "" {
		what, path, _ := strings.Cut(child, ":")
		if err := application(what, path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func application(what, path string) error {
	if what == "map" {
		return mapFile(path)
	}
	rate, err := loads[what](path)
	fmt.Println(rate)
	return err
}
