package fileop

import (
	"reflect"
	"slices"
	"testing"
)

func queries() (ListQuery, ListReply, DigestQuery, DigestReply) {
	attr := Attr{Mode: 0o100644, UID: 5, Mtime: Time{1, 2}}
	return ListQuery{Tree: 1, Obj: ObjID{2, 3}, After: 4, Sum: Sum{1}, From: "z\xff", Content: true},
		ListReply{Applied: 9, Known: true, More: true, Entries: []TargetEntry{
			{Name: "a", Obj: ObjID{1, 1}, Attr: attr, Size: 10, Nlink: 2, Xattrs: Sum{9}}, {Name: "l\xfe", Attr: attr, Target: "../x"}}},
		DigestQuery{Obj: ObjID{2, 3}, After: 7, Off: 1 << 30, Len: DigestMax, Block: 32768, Files: []ObjID{{4, 5}, {6, 7}}, Span: 65536, Spans: []int{0, 255}},
		DigestReply{Applied: 3, Known: true, Size: 12, Sums: []Sum{{1}, {2}}}
}

func TestQueriesSurvive(t *testing.T) {
	lq, lr, dq, dr := queries()
	var lq2 ListQuery
	var lr2 ListReply
	var dq2 DigestQuery
	var dr2 DigestReply
	for _, err := range []error{lq2.Parse(lq.Append(nil)), lr2.Parse(lr.Append(nil)), dq2.Parse(dq.Append(nil)), dr2.Parse(dr.Append(nil))} {
		if err != nil {
			t.Error(err)
		}
	}
	if !reflect.DeepEqual(lq, lq2) || !reflect.DeepEqual(lr, lr2) || !reflect.DeepEqual(dq, dq2) || !reflect.DeepEqual(dr, dr2) {
		t.Errorf("got %+v %+v %+v %+v", lq2, lr2, dq2, dr2)
	}
}

func TestDigestQueryBounds(t *testing.T) {
	for _, q := range []DigestQuery{{Len: DigestMax + 1, Block: 4096}, {Len: 1, Block: 1}, {Off: 1<<63 - 1, Len: 5, Block: 4096},
		{Block: 512, Files: slices.Repeat([]ObjID{{1, 1}}, FilesMax+1)}, {Block: 512, Spans: []int{1}}, {Block: 512, Span: 1000, Spans: []int{1}},
		{Block: 512, Span: DigestMax, Spans: []int{0, 1}}, {Block: 512, Span: 512, Spans: []int{maxSpan}}, {Off: 1<<63 - 1000, Block: 512, Span: 1024, Spans: []int{0}},
		{Block: 512, Span: 1 << 40, Spans: []int{0}}, {Block: 512, Span: 512, Spans: make([]int, maxSpan+1)}} {
		var got DigestQuery
		if err := got.Parse(q.Append(nil)); err == nil {
			t.Errorf("%+v was accepted", q)
		}
	}
}

// FuzzQueries: any bytes give an error or a value, never a panic.
func FuzzQueries(f *testing.F) {
	lq, lr, dq, dr := queries()
	for _, b := range [][]byte{lq.Append(nil), lr.Append(nil), dq.Append(nil), dr.Append(nil)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = new(ListQuery).Parse(b)
		_ = new(ListReply).Parse(b)
		_ = new(DigestQuery).Parse(b)
		_ = new(DigestReply).Parse(b)
	})
}
