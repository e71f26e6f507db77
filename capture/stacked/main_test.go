package stacked

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"understudy/capture/holder"
	"understudy/internal/exercise"
)

// childVar makes the test program an application in a process of its own: it says what
// to do, a colon, and where.
const childVar = "UNDERSTUDY_TEST_CHILD"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "holder" {
		os.Exit(holder.Main(os.Args[2:]))
	}
	exercise.Child()
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
	switch what {
	case "map":
		return mapFile(path)
	case "serve":
		return serveChild(path)
	case "work":
		return workChild(path)
	}
	rate, err := loads[what](path)
	fmt.Println(rate)
	return err
}
