package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/control"
	"understudy/settings"
)

// set changes a setting and returns what the node answers.
func (n *Node) setForTest(t testing.TB, name, value string) control.Setting {
	t.Helper()
	reply, err := n.setSetting(context.Background(), control.SettingRequest{Name: name, Value: value})
	if err != nil {
		t.Fatalf("set %s = %s: %v", name, value, err)
	}
	return reply.(control.Setting)
}

func (n *Node) getForTest(t testing.TB, name string) control.Setting {
	t.Helper()
	reply, err := n.getSetting(context.Background(), control.SettingRequest{Name: name})
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	return reply.(control.Setting)
}

// TestSettingsAreTheConfiguration: every setting with an effect is a configuration key,
// with the same default, and every value it accepts makes a configuration that works.
func TestSettingsAreTheConfiguration(t *testing.T) {
	for i := range settings.Table {
		s := &settings.Table[i]
		if keyOf(s) == "" {
			if s.Without == "" && !s.ReadOnly {
				t.Errorf("%s: nothing says what it does", s.Name)
			}
			if s.ReadOnly && toldSettings[s.Name] == nil && s.Name != "OriginalAddress" {
				t.Errorf("%s: nobody tells it", s.Name)
			}
			continue
		}
		cfg := DefaultConfig()
		cfg.Name = "indy"
		if got := cfg.get(s); got != s.Default {
			t.Errorf("%s: default %q, the configuration's is %q", s.Name, s.Default, got)
		}
		values := []string{"0", "1"}
		switch s.Kind {
		case settings.Number:
			values = []string{fmt.Sprint(s.Min), fmt.Sprint(s.Max), s.Default}
		case settings.Path:
			values = []string{"/somewhere", ""}
		case settings.Text:
			values = []string{"::1", "0.0.0.0"}
		}
		if s.Name == "History" {
			values = []string{"72h", "14d,500GB", "off"}
		}
		for _, v := range values {
			if err := cfg.set(s, v); err != nil {
				t.Errorf("%s = %s: %v", s.Name, v, err)
			} else if err := cfg.Validate(); err != nil {
				t.Errorf("%s = %s makes a configuration that does not work: %v", s.Name, v, err)
			}
			if got := cfg.get(s); got != v && floors[s.Key] == 0 {
				t.Errorf("%s = %s is read as %s", s.Name, v, got)
			}
		}
	}
}

// TestSettingsOutliveRestart: what was set is there after a restart, and what waited for
// one counts from then on. The environment wins, and the answer says so.
func TestSettingsOutliveRestart(t *testing.T) {
	p := newPair(t, false)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_ = free.Close()
	logs, queue := filepath.Join(p.base, "logs"), filepath.Join(p.base, "queues")
	for _, set := range []struct{ name, value, outcome string }{
		{"networkretry", "2", control.Applied}, {"NetworkRetry", "2", control.Unchanged}, {"AutoReconnect", "off", control.Applied},
		{"NetPort", port, control.Stored}, {"LogDir", logs, control.Stored}, {"QJournalDir", queue, control.Stored},
		{"MaxLogFileSize", "8192", control.Stored}, {"UNetPort", "1600", control.NoEffect},
	} {
		if got := p.source.setForTest(t, set.name, set.value); got.Outcome != set.outcome || (set.outcome == control.Stored) != (got.Value != got.InForce) {
			t.Errorf("%s = %s: %+v, want %s", set.name, set.value, got, set.outcome)
		}
	}
	if now := p.source.conf(); now.NetworkRetry != 2*time.Second || now.AutoReconnect || now.LogDir != "" || now.queueDir() == queue {
		t.Errorf("in force before the restart: %+v", now)
	}
	p.stops[len(p.stops)-1]()
	p.stops = p.stops[:len(p.stops)-1]
	p.source = p.startWith("indy", func(c *Config) { c.AutoRemirror, c.Pinned = RemirrorFull, []string{"network_retry"} })
	now := p.source.conf()
	if now.AutoReconnect || now.LogDir != logs || now.LogFileBytes != 8192 || now.QueueDir != queue || now.AutoRemirror != RemirrorFull {
		t.Errorf("in force after the restart: %+v", now)
	}
	if _, have, _ := net.SplitHostPort(p.source.Addr()); have != port {
		t.Errorf("listens at port %s, NetPort is %s", have, port)
	}
	for _, dir := range []string{logs, queue} {
		if names, err := os.ReadDir(dir); err != nil || len(names) == 0 {
			t.Errorf("%s: %d files, %v", dir, len(names), err)
		}
	}
	if s := p.source.getForTest(t, "NetworkRetry"); now.NetworkRetry != 100*time.Millisecond || s.Value != "2" || s.InForce != "0.1" || s.Note == "" {
		t.Errorf("what the environment gave: %v, %+v", now.NetworkRetry, s)
	}
	if s := p.source.getForTest(t, "UNetPort"); s.Value != "1600" || s.Note == "" {
		t.Errorf("%+v", s)
	}
	reply, err := p.source.setSetting(context.Background(), control.SettingRequest{Name: "AutoReconnect", Reset: true})
	if s, ok := reply.(control.Setting); err != nil || !ok || s.Set || s.Value != "1" || !p.source.conf().AutoReconnect {
		t.Errorf("taken back: %+v, %v", reply, err)
	}
}

// TestQueueDirectoryMoves: with another QJournalDir, source and target heal by themselves
// after their restart (B6.31).
func TestQueueDirectoryMoves(t *testing.T) {
	p := newPair(t, false)
	p.connect()
	p.put("one", "before")
	p.settle()
	p.source.setForTest(t, "QJournalDir", filepath.Join(p.base, "q-source"))
	p.target.setForTest(t, "QJournalDir", filepath.Join(p.base, "q-target"))
	p.put("two", "between")
	addr := p.target.Addr()
	p.stop()
	p.target = p.startAt("jersey", addr)
	p.source = p.start("indy")
	p.put("one", "after")
	p.settle()
	p.same()
	for _, dir := range []string{"q-source", "q-target"} {
		if names, err := os.ReadDir(filepath.Join(p.base, dir)); err != nil || len(names) == 0 {
			t.Errorf("%s: %d files, %v", dir, len(names), err)
		}
	}
}

// TestDamagedSettingsAreNotBelieved: a damaged copy is noticed and the other one counts;
// without a sound one there is no start, and the error says what to do.
func TestDamagedSettingsAreNotBelieved(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	f, err := openSettings(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	value := "0"
	if err := f.put(settings.Find("AutoRemirror"), &value, func(map[string]string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(settingsPaths(dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range sound {
		damaged := append([]byte(nil), sound...)
		damaged[i] ^= 1 << (i % 8)
		for k, path := range settingsPaths(dir) {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := openSettings(dir, log)
			if k == 0 {
				if err != nil {
					t.Fatalf("byte %d of one copy: %v", i, err)
				}
				if v, ok := f.get(settings.Find("AutoRemirror")); !ok || v != "0" {
					t.Fatalf("byte %d of one copy: AutoRemirror = %q", i, v)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "put back a copy") {
				t.Fatalf("byte %d of both copies: %v", i, err)
			}
		}
		for _, path := range settingsPaths(dir) {
			if err := os.WriteFile(path, sound, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStoredSettingThatIsNotAccepted: a file of another version, or with a value out of
// range, is no reason to begin with something else.
func TestStoredSettingThatIsNotAccepted(t *testing.T) {
	for _, set := range []map[string]string{{"Nonsense": "1"}, {"AutoRemirror": "9"}} {
		cfg := DefaultConfig()
		cfg.Name, cfg.Data, cfg.Listen = "indy", t.TempDir(), "127.0.0.1:0"
		if err := (storedSettings{Version: settingsVersion, Settings: set}).write(cfg.Data); err != nil {
			t.Fatal(err)
		}
		n, err := Open(cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			_ = n.Close()
			t.Errorf("%v is taken", set)
		} else if !strings.Contains(err.Error(), "stored settings") {
			t.Errorf("%v: %v", set, err)
		}
	}
}

// TestRefusedSettings: what is refused changes nothing, and the error is one that
// programs can tell.
func TestRefusedSettings(t *testing.T) {
	p := newPair(t, false)
	before := *p.source.conf()
	for _, c := range []struct {
		name, value string
		code        control.Code
	}{
		{"nonsense", "1", control.NotFound}, {"", "1", control.NotFound}, {"VersionInfo", "9", control.Refused},
		{"NetworkRetry", "0", control.BadRequest}, {"NetworkRetry", "", control.BadRequest}, {"QJournalDir", "relative", control.BadRequest},
	} {
		_, err := p.source.setSetting(context.Background(), control.SettingRequest{Name: c.name, Value: c.value})
		var e *control.Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s = %q: %v, want %s", c.name, c.value, err, c.code)
		}
	}
	if !reflect.DeepEqual(before, *p.source.conf()) {
		t.Error("something changed")
	}
	if _, err := os.Stat(settingsPaths(p.source.cfg.Data)[0]); err == nil {
		t.Error("something was stored")
	}
}

// TestSettingsChangedAtOnce: several operators at once lose none of their changes.
func TestSettingsChangedAtOnce(t *testing.T) {
	p := newPair(t, false)
	var wg sync.WaitGroup
	for _, name := range []string{"NetworkRetry", "HBTTL", "TGRetryLocked", "AutoRemirrorRetry", "UNetPort", "PingFrequency"} {
		wg.Go(func() {
			for v := range 10 {
				p.source.setForTest(t, name, fmt.Sprint(1500+v))
				_ = p.source.conf().HeartbeatTTL
			}
		})
	}
	wg.Wait()
	f, err := openSettings(p.source.cfg.Data, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.data.Settings) != 6 || p.source.conf().TargetRetry != 1509*time.Second || p.source.conf().HeartbeatTTL != 1509*time.Second {
		t.Errorf("%v, %+v", f.data.Settings, p.source.conf())
	}
	for name, v := range f.data.Settings {
		if v != "1509" {
			t.Errorf("%s = %s", name, v)
		}
	}
}
