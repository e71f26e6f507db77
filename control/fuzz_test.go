package control

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"understudy/internal/access"
)

// requests are what the verbs read.
var requests = []func() any{
	func() any { return new(ConnectRequest) }, func() any { return new(MirrorRequest) }, func() any { return new(SettleRequest) },
	func() any { return new(PauseRequest) }, func() any { return new(DirRequest) }, func() any { return new(NameRequest) },
	func() any { return new(InviteRequest) }, func() any { return new(JoinRequest) }, func() any { return new(RotateRequest) },
	func() any { return new(KeyRequest) }, func() any { return new(Machine) },
	func() any { return new(EventsRequest) }, func() any { return new(IDRequest) }, func() any { return new(CalculateRequest) },
	func() any { return new(MonitorRequest) }, func() any { return new(FailoverRequest) }, func() any { return new(ScheduleRequest) },
	func() any { return new(SettingRequest) }, func() any { return new(VerifyRequest) }, func() any { return new(UpgradeRequest) },
	func() any { return new(MarkRequest) }, func() any { return new(HistoryRequest) }, func() any { return new(ReplayRequest) },
	func() any { return new(FailbackRequest) }, func() any { return new(PathsRequest) }, func() any { return new(RestoreRequest) },
	func() any { return new(TransmissionRequest) }, func() any { return new(ReplicationRequest) }, func() any { return new(TargetRequest) },
	func() any { return new(LimitRequest) }, func() any { return new(TaskRequest) }, func() any { return new(TasksRequest) },
	func() any { return new(OrphansRequest) }, func() any { return new(PairRequest) }, func() any { return new(ModuleRequest) }, func() any { return new(ScriptRequest) },
	func() any { return new(SwitchoverRequest) }, func() any { return new(LeaseRequest) }, func() any { return new(StatslogRequest) },
}

// TestEveryRequestIsFuzzed: no request of the source files is missing in the list above.
func TestEveryRequestIsFuzzed(t *testing.T) {
	fuzzed := map[string]bool{}
	for _, fresh := range requests {
		fuzzed[reflect.TypeOf(fresh()).Elem().Name()] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^type (\w+Request) struct`).FindAllSubmatch(src, -1) {
			if !fuzzed[string(m[1])] {
				t.Errorf("%s: %s is not fuzzed", name, m[1])
			}
		}
	}
}

// TestOneValueOnly: a request is one JSON value, and nothing after it.
func TestOneValueOnly(t *testing.T) {
	for raw, ok := range map[string]bool{`{"con_id":1}`: true, " {\"con_id\":1}\n": true, `{"con_id":1}{"con_id":2}`: false, `{"con_id":1} x`: false, `{"con_id":1}}`: false} {
		var r IDRequest
		if err := Decode([]byte(raw), &r); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// FuzzRequest: any bytes are a request of each kind or a bad-request error, and what was
// read is written and read again as the same.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"set":"x","rules":["/a inc, rec"],"target":"jersey","map":{"/a":"/b"}}`))
	f.Add([]byte(`{"id":1,"action":"start","mode":"diff"}`))
	f.Add([]byte(`{"name":"x","level":"admin"}`))
	f.Add([]byte("\"nonsense\""))
	f.Add(bytes.Repeat([]byte("["), 20000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, fresh := range requests {
			r := fresh()
			if err := Decode(raw, r); err != nil {
				if e, ok := err.(*Error); !ok || e.Code != BadRequest {
					t.Fatalf("%T: %v", r, err)
				}
				continue
			}
			once, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			again := fresh()
			if err := Decode(once, again); err != nil {
				t.Fatalf("%T: %s: %v", r, once, err)
			}
			if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%T: %s became %s, %v", r, once, twice, err)
			}
		}
	})
}

// capturing is a Server that keeps what it is given, to be called by hand.
type capturing map[string]func(ctx context.Context, data []byte) ([]byte, error)

func (c capturing) Handle(subject string, fn func(ctx context.Context, data []byte) ([]byte, error)) (func(), error) {
	c[subject] = fn
	return func() {}, nil
}

// FuzzPairing: whatever an invited machine, or a paired one that changes its key, says,
// is answered, and reaches the node only in the version of the protocol it knows.
func FuzzPairing(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"indy","address":"192.0.2.1:6320","target":"192.0.2.2:6320"}`))
	f.Add([]byte(`{"version":1,"next":"` + access.Fingerprint{1}.String() + `"}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		heard := 0
		s := capturing{}
		if _, err := ServePairing(s, func(_ context.Context, r PairRequest) (PairReply, error) {
			heard++
			if r.Version != pairVersion {
				t.Fatalf("version %d", r.Version)
			}
			return PairReply{Name: "jersey"}, nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := ServeRotation(s, func(context.Context, access.Fingerprint) error { heard++; return nil }); err != nil {
			t.Fatal(err)
		}
		for subject, h := range s {
			before := heard
			reply, err := h(t.Context(), raw)
			var env envelope
			if err == nil {
				err = json.Unmarshal(reply, &env)
			}
			if err != nil || (env.Error == nil) != (heard > before) {
				t.Fatalf("%s: %s, %v", subject, reply, err)
			}
		}
	})
}
