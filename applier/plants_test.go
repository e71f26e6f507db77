package applier

import (
	"testing"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// G7: what the kill tests rely on is broken on purpose, and shows.
func TestKillTestsNoticeBrokenRestarts(t *testing.T) {
	for plant, name := range map[failpoint.Plant]string{
		failpoint.PlantNoRewind: "rename, create, write",
		failpoint.PlantNoSave:   "copied, changed, removed",
	} {
		t.Run(string(plant), func(t *testing.T) {
			ops := append([]fileop.Op{{Kind: fileop.Gap}, {Kind: fileop.SetAttr, Obj: rootID, Attr: dirAttr(0o755, 0)}}, relatives()[name]...)
			want, _ := killFrom(t, ops, 2, 1<<30)
			if err := failpoint.Arm(string(plant)); err != nil {
				t.Fatal(err)
			}
			defer failpoint.Arm("")
			for from := range len(ops) {
				for n := int64(0); ; n++ {
					got, killed := killFrom(t, ops, fileop.Seq(from), n)
					if got != want {
						return // it shows
					}
					if !killed {
						break
					}
				}
			}
			t.Fatal("nothing differs with the mechanism broken")
		})
	}
}
