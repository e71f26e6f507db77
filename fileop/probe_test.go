package fileop

import (
	"reflect"
	"testing"
)

func TestProbesTravel(t *testing.T) {
	q := Probe{Token: 7, Tree: 2, Obj: ObjID{1, 2}, Name: "a b", Off: 1 << 40, Len: 1 << 19, Block: 4096, Treat: true, MinAge: 60}
	var got Probe
	if err := got.Parse(q.Append(nil)); err != nil || got != q {
		t.Errorf("probe: %+v, %v", got, err)
	}
	r := ProbeReply{Ready: true, Applied: 9, Known: true, There: true, Err: "x", Treated: SetAside, Files: 1, Dirs: 2, Bytes: 3,
		Entry: TargetEntry{Obj: ObjID{3, 4}, Attr: Attr{Mode: 0o100644, UID: 1, Mtime: Time{5, 6}}, Size: 7, Target: "t", Xattrs: Sum{1}}, Sums: []Sum{{1}, {2}}}
	var back ProbeReply
	if err := back.Parse(r.Append(nil)); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("reply: %+v, %v", back, err)
	}
}

func TestProbeRefuses(t *testing.T) {
	good := Probe{Token: 1, Obj: ObjID{1, 1}, Name: "a"}
	for what, spoil := range map[string]func(*Probe){
		"no token": func(q *Probe) { q.Token = 0 }, "no object": func(q *Probe) { q.Obj = ObjID{} },
		"a path": func(q *Probe) { q.Name = "a/b" }, "the parent": func(q *Probe) { q.Name = ".." },
		"an orphan without a name": func(q *Probe) { q.Name, q.Treat = "", true },
		"too much":                 func(q *Probe) { q.Len, q.Block = DigestMax+1, 4096 }, "tiny blocks": func(q *Probe) { q.Len, q.Block = 4096, 1 },
	} {
		q := good
		spoil(&q)
		if err := new(Probe).Parse(q.Append(nil)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

func FuzzProbe(f *testing.F) {
	q := Probe{Token: 1, Obj: ObjID{1, 1}, Name: "a", Len: 4096, Block: 4096}
	f.Add(q.Append(nil))
	f.Add((&ProbeReply{Ready: true, Sums: []Sum{{1}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q Probe
		if q.Parse(b) == nil {
			var again Probe
			if err := again.Parse(q.Append(nil)); err != nil || again != q {
				t.Errorf("%+v became %+v, %v", q, again, err)
			}
		}
		_ = new(ProbeReply).Parse(b)
	})
}
