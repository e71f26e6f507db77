package node

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/applier"
	"understudy/settings"
)

// The configuration in force: what the configuration file says, replaced by what was set
// (settings.json), replaced by what the environment and flags of the start say.

// conf is the configuration as it is now. Callers do not change it.
func (n *Node) conf() *Config {
	if c := n.current.Load(); c != nil {
		return c
	}
	return &n.cfg
}

// Directories that settings may move.
func (c *Config) queueDir() string  { return orBelow(c.QueueDir, c.Data, "queue") }
func (c *Config) backupDir() string { return orBelow(c.BackupDir, c.Data, "backup") }
func (c *Config) logDir() string    { return orBelow(c.LogDir, c.Data, eventDir) }

// orphanPolicy is what this machine does with orphans, as a target.
func (c *Config) orphanPolicy() applier.OrphanPolicy {
	p := applier.OrphanPolicy{MinAge: c.OrphansMinAge}
	if c.MoveOrphans {
		p.Dir = c.OrphansDir
	}
	return p
}

func orBelow(dir, data, name string) string {
	if dir == "" {
		return filepath.Join(data, name)
	}
	return dir
}

// validateSettings checks the keys that are settings of the original.
func (c *Config) validateSettings(bad func(string, any, string)) {
	for key, dir := range map[string]string{"queue_dir": c.QueueDir, "backup_dir": c.BackupDir, "log_dir": c.LogDir, "orphans_dir": c.OrphansDir, "history_dir": c.HistoryDir} {
		if dir != "" && !filepath.IsAbs(dir) {
			bad(key, fmt.Sprintf("%q", dir), "an absolute path of a directory")
		}
	}
	for _, v := range []struct {
		key               string
		have, least, most int64
	}{
		{"log_file_bytes", c.LogFileBytes, 4096, 1 << 30}, {"log_files", int64(c.LogFiles), 1, 999},
		{"mirror_chunk", c.MirrorChunk, minChunk, 375000}, {"replication_ratio", int64(c.ReplicationRatio), 1, 65535},
		{"queue_alert", int64(c.QueueAlert), 0, 100},
		{"verify_log_limit", c.VerifyLogLimit, 0, math.MaxInt64}, {"verify_retry_limit", int64(c.VerifyRetryLimit), 0, math.MaxUint32},
		{"verify_retry", int64(c.VerifyRetry), 0, math.MaxInt64}, {"orphans_min_age", int64(c.OrphansMinAge), 0, math.MaxInt64},
	} {
		if v.have < v.least || v.have > v.most {
			bad(v.key, v.have, fmt.Sprintf("%d to %d", v.least, v.most))
		}
	}
	if v := c.StatsFile; v == "" || v == "." || v == ".." || len(v) > 128 || strings.ContainsAny(v, "/\x00") {
		bad("stats_file", fmt.Sprintf("%q", v), "the name of a file, without a directory")
	}
	if c.StatsMax < 64<<10 {
		bad("stats_max", c.StatsMax, "at least 65536 bytes")
	}
	if v := c.VerifyLogName; v == "" || v == "." || v == ".." || len(v) > 128 || strings.ContainsAny(v, "/\x00") {
		bad("verify_log_name", fmt.Sprintf("%q", c.VerifyLogName), "the name of a file, without a directory")
	}
	if c.HeartbeatEvery < 0 || c.HeartbeatEvery > 0 && c.HeartbeatEvery < 10*time.Millisecond {
		bad("heartbeat_every", c.HeartbeatEvery, "0, or at least 10ms")
	}
	if c.HeartbeatTTL < 10*time.Millisecond {
		bad("heartbeat_ttl", c.HeartbeatTTL, "at least 10ms")
	}
}

// Floors of keys whose settings begin lower: the original's least values would only cost.
const (
	minChunk  = 4096
	minWindow = 1 << 20
	minRetry  = int64(10 * time.Millisecond)
)

var floors = map[string]int64{"mirror_chunk": minChunk, "mirror_window": minWindow, "target_retry": minRetry}

// field is the configuration's field of a key.
func (c *Config) field(key string) (reflect.Value, bool) {
	v := reflect.ValueOf(c).Elem()
	for f, fv := range v.Fields() {
		if f.Tag.Get("mapstructure") == key && key != "-" {
			return fv, true
		}
	}
	return reflect.Value{}, false
}

// set brings a canonical value of a setting into the configuration.
func (c *Config) set(s *settings.Setting, value string) error {
	switch s.Name {
	case "NetPort", "DefaultAddress":
		return c.setListen(s.Name, value)
	}
	f, ok := c.field(s.Key)
	if !ok {
		return fmt.Errorf("setting %s: no key %q", s.Name, s.Key)
	}
	if f.Kind() == reflect.String {
		f.SetString(value)
		return nil
	}
	i, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("setting %s: %w", s.Name, err)
	}
	if f.Kind() == reflect.Bool {
		f.SetBool(i == 1)
		return nil
	}
	f.SetInt(max(i*max(s.Scale, 1), floors[s.Key]))
	return nil
}

func (c *Config) setListen(name, value string) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if name == "NetPort" {
		port = value
	} else {
		host = value
	}
	c.Listen = net.JoinHostPort(host, port)
	return nil
}

// get is the configuration's value of a setting, in the setting's own unit.
func (c *Config) get(s *settings.Setting) string {
	switch s.Name {
	case "NetPort", "DefaultAddress":
		host, port, _ := net.SplitHostPort(c.Listen) // validated
		if s.Name == "NetPort" {
			return port
		}
		return host
	}
	f, ok := c.field(s.Key)
	switch {
	case !ok:
		return s.Default
	case f.Kind() == reflect.String:
		return f.String()
	case f.Kind() == reflect.Bool:
		if f.Bool() {
			return "1"
		}
		return "0"
	case f.Int()%max(s.Scale, 1) != 0: // finer than the original can say
		return strconv.FormatFloat(float64(f.Int())/float64(s.Scale), 'g', -1, 64)
	}
	return strconv.FormatInt(f.Int()/max(s.Scale, 1), 10)
}

// keyOf is the configuration key behind a setting; "": none.
func keyOf(s *settings.Setting) string {
	if s.Name == "NetPort" || s.Name == "DefaultAddress" {
		return "listen"
	}
	return s.Key
}

// pinned reports whether the environment or a flag gives what a setting would.
func (c *Config) pinned(s *settings.Setting) bool { return slices.Contains(c.Pinned, keyOf(s)) }

// apply brings what is set into the configuration of a start. A name or a value that this
// version does not take is an error.
func (f *settingsFile) apply(cfg *Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return applySettings(cfg, f.data.Settings)
}

func applySettings(cfg *Config, set map[string]string) error {
	var errs []error
	for name, value := range set {
		s := settings.Find(name)
		if s == nil {
			errs = append(errs, fmt.Errorf("setting %s is not known to this version", name))
			continue
		}
		value, err := s.Parse(value)
		if err == nil && keyOf(s) != "" && !cfg.pinned(s) {
			err = cfg.set(s, value)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stored settings: %w", err)
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("stored settings: %w", err)
	}
	return nil
}
