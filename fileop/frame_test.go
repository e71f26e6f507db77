package fileop

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples has one record of every kind, with every field in use somewhere.
func samples() []Op {
	attr := &Attr{Mode: 0o104755, UID: 1000, GID: 100, Rdev: 259, Mtime: Time{1700000000, 123456789}, Atime: Time{-5, 1}}
	dir, obj, other := ObjID{2, 0xd1}, ObjID{77, 0xabcdef}, ObjID{78, 1}
	mtime := Time{1700000001, 7}
	return []Op{
		{Kind: Create, Obj: obj, Parent: dir, Name: "a.txt", Attr: attr, PMtime: mtime, Path: "a.txt", Time: Time{1700000002, 0}},
		{Kind: Create, Obj: obj, Attr: attr},
		{Kind: Mkdir, Obj: obj, Parent: dir, Name: "d", Attr: attr, Xattrs: []Xattr{{"system.posix_acl_default", []byte{2, 0, 0, 0}}}},
		{Kind: Mknod, Obj: obj, Parent: dir, Name: "\xff\n", Attr: attr},
		{Kind: Symlink, Obj: obj, Parent: dir, Name: "l", Attr: attr, Data: []byte("../b")},
		{Kind: Link, Obj: obj, Parent: dir, Name: "b", Nlink: 2},
		{Kind: Unlink, Obj: obj, Parent: dir, Name: "b", Last: true},
		{Kind: Rmdir, Obj: obj, Parent: dir, Name: "d", Flags: FlagTree},
		{Kind: Rename, Obj: obj, Parent: dir, Name: "a", Parent2: obj, Name2: "b", Obj2: other, Flags: RenameExchange, PMtime2: mtime},
		{Kind: Write, Tree: 3, Obj: obj, Off: 1 << 40, Data: []byte("hello"), Mtime: mtime},
		{Kind: Truncate, Obj: obj, Len: 4096},
		{Kind: Fallocate, Obj: obj, Off: 4096, Len: 8192, Flags: 3},
		{Kind: CopyRange, Obj: obj, Obj2: other, Off: 1, Off2: 2, Len: 3},
		{Kind: SetAttr, Obj: obj, Attr: attr},
		{Kind: SetXattr, Obj: obj, Xattrs: []Xattr{{"user.a", []byte("v")}, {"user.empty", nil}}},
		{Kind: RemoveXattr, Obj: obj, Xattrs: []Xattr{{Name: "user.a"}}},
		{Kind: Sync, Obj: obj},
		{Kind: Barrier, Path: "before upgrade"},
		{Kind: Task, Data: []byte("{}")},
		{Kind: Gap},
		{Kind: MirrorBegin, Len: 1},
		{Kind: MirrorEnd, Len: 1},
		{Kind: MirrorAbort, Len: 2},
		{Kind: MirrorEntry, Obj: obj, Parent: dir, Name: "a", Attr: attr, Nlink: 1, Len: 3, Data: []byte("abc"), Flags: FlagWhole},
		{Kind: MirrorBlock, Obj: obj, Off: 512, Len: 1024, Flags: FlagHole},
		{Kind: MirrorFileEnd, Obj: obj, Len: 1536, Attr: attr},
		{Kind: MirrorDir, Obj: dir, Names: []string{"a", "b\xfe", "c"}, Flags: FlagMore},
		{Kind: MirrorDirEnd, Obj: dir, Attr: attr},
	}
}

// frameOf packs the records of one lane; Other grows by one every third record.
func frameOf(lane Lane, ops []Op) []byte {
	b := NewBuilder(lane, 0x1122, 10, 0x99)
	for i := range ops {
		if ops[i].Kind.Lane() == lane {
			b.Add(AppendRecord(nil, &ops[i]), Seq(5+b.Count()/3))
		}
	}
	_, _, out := b.Finish()
	return out
}

func decode(t testing.TB, raw []byte) []Op {
	t.Helper()
	f, err := ParseFrame(raw)
	if err != nil {
		t.Fatal(err)
	}
	var ops []Op
	r := f.Records()
	for {
		var op Op
		ok, err := r.Next(&op)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ops
		}
		ops = append(ops, op)
	}
}

func TestGoldenFrames(t *testing.T) {
	for lane, file := range map[Lane]string{LaneQueue: "queue.hex", LaneMirror: "mirror.hex"} {
		raw := frameOf(lane, samples())
		path := filepath.Join("testdata", file)
		got := breakLines(hex.EncodeToString(raw))
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the format changed; if that is meant, raise FrameVersion and run with -update", path)
		}
	}
}

func breakLines(s string) string {
	var b strings.Builder
	for len(s) > 96 {
		fmt.Fprintln(&b, s[:96])
		s = s[96:]
	}
	fmt.Fprintln(&b, s)
	return b.String()
}

func TestEveryKindSurvivesAFrame(t *testing.T) {
	all := samples()
	have := map[Kind]bool{}
	for _, lane := range []Lane{LaneQueue, LaneMirror} {
		got := decode(t, frameOf(lane, all))
		i := 0
		for _, want := range all {
			have[want.Kind] = true
			if want.Kind.Lane() != lane {
				continue
			}
			want.Seq, want.Other = Seq(10+i), Seq(5+i/3)
			if !sameOp(got[i], want) {
				t.Errorf("record %d:\n got %+v\nwant %+v", i, got[i], want)
			}
			i++
		}
		if i != len(got) {
			t.Errorf("lane %d: %d records, want %d", lane, len(got), i)
		}
	}
	for k := range kindNames {
		if !have[k] {
			t.Errorf("no sample of kind %s", k)
		}
	}
}

func sameOp(a, b Op) bool {
	for _, o := range []*Op{&a, &b} {
		o.Data = append([]byte{}, o.Data...)
		xs := o.Xattrs
		o.Xattrs = nil
		for _, x := range xs {
			o.Xattrs = append(o.Xattrs, Xattr{x.Name, append([]byte{}, x.Value...)})
		}
	}
	return reflect.DeepEqual(a, b)
}

func TestRandomRecordsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Custom(func(t *rapid.T) ObjID { return ObjID{rapid.Uint64().Draw(t, "ino"), rapid.Uint64().Draw(t, "gen")} })
		when := rapid.Custom(func(t *rapid.T) Time {
			return Time{rapid.Int64().Draw(t, "sec"), rapid.Uint32Range(0, 999999999).Draw(t, "nsec")}
		})
		op := Op{Kind: Write, Obj: id.Draw(t, "obj"), Off: rapid.Int64Range(0, 1<<62).Draw(t, "off"),
			Data: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"), Mtime: when.Draw(t, "mtime"), PMtime: when.Draw(t, "pmtime"),
			Len: rapid.Int64Range(0, 1<<61).Draw(t, "len"), Tree: rapid.Uint32().Draw(t, "tree"), Last: rapid.Bool().Draw(t, "last")}
		var got Op
		if err := parseRecord(AppendRecord(nil, &op), &got); err != nil {
			t.Fatal(err)
		}
		if !sameOp(got, op) {
			t.Fatalf("got %+v\nwant %+v", got, op)
		}
	})
}

func TestFrameRefusesEveryFlippedBit(t *testing.T) {
	raw := frameOf(LaneQueue, samples())
	if _, err := ParseFrame(raw); err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseFrame(raw); err == nil {
			t.Fatalf("bit %d flipped, and nothing noticed", bit)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for n := range raw {
		if _, err := ParseFrame(raw[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestFollowsRefusesAllButTheSuccessor(t *testing.T) {
	b := NewBuilder(LaneQueue, 7, 1, 0)
	rec := AppendRecord(nil, &Op{Kind: Gap})
	b.Add(rec, 0)
	_, _, one := b.Finish()
	b.Add(rec, 0)
	_, _, two := b.Finish()
	f1, _ := ParseFrame(one)
	f2, _ := ParseFrame(two)
	if err := f1.Follows(7, 0, 0); err != nil {
		t.Error(err)
	}
	if err := f2.Follows(7, f1.Last(), f1.Chain); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"repeat":        f1.Follows(7, f1.Last(), f1.Chain),
		"hole":          f2.Follows(7, 0, 0),
		"other epoch":   f2.Follows(8, f1.Last(), f1.Chain),
		"other history": f2.Follows(7, f1.Last(), f1.Chain+1),
	} {
		if !errors.Is(err, ErrNotNext) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewerVersionIsRefusedByName(t *testing.T) {
	raw := frameOf(LaneQueue, samples())
	raw[4] = FrameVersion + 1
	if _, err := ParseFrame(raw); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("got %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	attr := &Attr{Mode: 0o100644}
	for name, op := range map[string]Op{
		"unknown kind":    {Kind: 200},
		"slash in name":   {Kind: Unlink, Name: "a/b"},
		"dot dot":         {Kind: Rmdir, Name: ".."},
		"empty name":      {Kind: Mkdir, Attr: attr},
		"nul":             {Kind: Link, Name: "a\x00"},
		"long name":       {Kind: Unlink, Name: strings.Repeat("x", 256)},
		"bad second name": {Kind: Rename, Name: "a", Name2: "."},
		"negative offset": {Kind: Write, Off: -1},
		"overflow":        {Kind: Truncate, Off: 1 << 62, Len: 1<<63 - 1},
		"too much data":   {Kind: Write, Data: make([]byte, MaxData+1)},
		"no attributes":   {Kind: Create, Name: "a"},
		"name in list":    {Kind: MirrorDir, Names: []string{"ok", "../up"}},
		"xattr name":      {Kind: SetXattr, Xattrs: []Xattr{{Name: ""}}},
	} {
		if err := op.Check(); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzFrame feeds any bytes, with the checksums made right, so that the fuzzer gets
// past them.
func FuzzFrame(f *testing.F) {
	f.Add(frameOf(LaneQueue, samples()))
	f.Add(frameOf(LaneMirror, samples()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		readAll(raw)
		if len(raw) > HeaderSize && len(raw) < MaxFrame {
			b := NewBuilder(Lane(raw[5]), 1, 1, 0)
			b.Add(raw[HeaderSize:], 0)
			_, _, sealed := b.Finish()
			readAll(sealed)
		}
	})
}

func readAll(raw []byte) {
	frame, err := ParseFrame(raw)
	if err != nil {
		return
	}
	r := frame.Records()
	for {
		var op Op
		if ok, err := r.Next(&op); err != nil || !ok {
			return
		}
	}
}

func TestDecodingAllocatesNoMoreThanTheFrame(t *testing.T) {
	hostile := map[string]Op{
		"many names":  {Kind: MirrorDir, Obj: ObjID{1, 1}, Names: many("n", MaxNames)},
		"many xattrs": {Kind: SetXattr, Obj: ObjID{1, 1}, Xattrs: manyXattrs(MaxXattr)},
	}
	for name, op := range hostile {
		b := NewBuilder(LaneQueue, 1, 1, 0)
		if op.Kind.Lane() == LaneMirror {
			b = NewBuilder(LaneMirror, 1, 1, 0)
		}
		rec := AppendRecord(nil, &op)
		for b.Fits(len(rec)) {
			b.Add(rec, 0)
		}
		_, _, raw := b.Finish()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		largest := uint64(0)
		frame, err := ParseFrame(raw)
		if err != nil {
			t.Fatal(err)
		}
		r := frame.Records()
		last := before.TotalAlloc
		for {
			var op Op
			ok, err := r.Next(&op)
			if err != nil {
				t.Fatal(name, err)
			}
			if !ok {
				break
			}
			runtime.ReadMemStats(&after)
			largest = max(largest, after.TotalAlloc-last)
			last = after.TotalAlloc
		}
		if largest > MaxFrame {
			t.Errorf("%s: one record took %d bytes of memory, the limit of a frame is %d", name, largest, MaxFrame)
		}
	}
}

func many(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func manyXattrs(n int) []Xattr {
	out := make([]Xattr, n)
	for i := range out {
		out[i] = Xattr{Name: fmt.Sprintf("user.%d", i), Value: []byte("v")}
	}
	return out
}

func BenchmarkEncode4K(b *testing.B) {
	op := Op{Kind: Write, Obj: ObjID{1, 2}, Data: make([]byte, 4096), Mtime: Time{1, 1}}
	var buf []byte
	b.SetBytes(4096)
	for b.Loop() {
		buf = AppendRecord(buf[:0], &op)
	}
}
