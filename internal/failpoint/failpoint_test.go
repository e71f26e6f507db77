package failpoint

import "testing"

// A point ends the process at the hit it was armed for and at no other; a plant is
// planted where it was armed; unknown names are refused.
func TestArm(t *testing.T) {
	ended := 0
	saved := end
	end = func() { ended++ }
	t.Cleanup(func() { end = saved; _ = Arm("") })
	Hit(ApplyBefore)
	if err := Arm(At(ApplyBefore, 2) + "," + string(PlantSkip)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 0, 1, 1} {
		Hit(ApplyAfter)
		if Hit(ApplyBefore); ended != want {
			t.Errorf("after hit %d ended %d times", i+1, ended)
		}
	}
	if !Planted(PlantSkip) || Planted(PlantNoChain) {
		t.Error("planted is not what was armed")
	}
	for _, bad := range []string{"nothing", "apply.before=-1", "apply.before=x", "plant.skip=1"} {
		if Arm(bad) == nil {
			t.Errorf("%q was armed", bad)
		}
	}
	for _, p := range Points() {
		if p.Side() == "" {
			t.Errorf("%s has no side", p)
		}
	}
}
