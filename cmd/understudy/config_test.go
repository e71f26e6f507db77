package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/viper"

	"understudy/node"
)

// TestWrongConfigs: every file of testdata/config fails, with each text that it wants.
func TestWrongConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = loadConfig(viper.New(), file)
		if err == nil {
			t.Errorf("%s is taken", file)
			continue
		}
		for line := range strings.Lines(string(text)) {
			if want, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: "); ok && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", file, err, want)
			}
		}
	}
}

// TestMissingConfig: the error names the file.
func TestMissingConfig(t *testing.T) {
	_, err := loadConfig(viper.New(), "testdata/nothing.yml")
	if err == nil || !strings.Contains(err.Error(), "testdata/nothing.yml: no such file or directory") {
		t.Error(err)
	}
}

// TestSampleConfig: the sample loads, and says every key and its default.
func TestSampleConfig(t *testing.T) {
	const sample = "../../ops/sample.yml"
	cfg, err := loadConfig(viper.New(), sample)
	if err != nil {
		t.Fatal(err)
	}
	def := node.DefaultConfig()
	if cfg.QueueLimit != def.QueueLimit || cfg.MemoryLimit != def.MemoryLimit || cfg.MirrorWindow != def.MirrorWindow || cfg.Data != def.Data ||
		cfg.NetworkRetry != def.NetworkRetry || cfg.RescanEvery != def.RescanEvery || cfg.Strict != def.Strict || cfg.AutoReconnect != def.AutoReconnect ||
		cfg.QueueFree != def.QueueFree || cfg.AutoRemirror != def.AutoRemirror || cfg.AutoRemirrorRetry != def.AutoRemirrorRetry ||
		cfg.HoldGrace != def.HoldGrace || cfg.Watchdog != def.Watchdog {
		t.Errorf("the sample shows other defaults: %+v, %+v", cfg, def)
	}
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range node.ConfigKeys() {
		if !strings.Contains(string(text), "\n"+key+":") {
			t.Errorf("the sample does not explain %s", key)
		}
	}
	if c := cfg.Connections; len(c) != 1 || c[0].Map["/srv/tree"] != "/srv/replica" || len(c[0].Rules) != 2 {
		t.Errorf("connections %+v", c)
	}
}

// TestConfigSources: the environment wins over the file, and flags over both.
func TestConfigSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(file, []byte("name: from-file\ndata: /from/file\nnetwork_retry: 3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("UNDERSTUDY_DATA", "/from/environment")
	t.Setenv("UNDERSTUDY_QUEUE_LIMIT", "67108864")
	t.Setenv("UNDERSTUDY_LISTEN", "127.0.0.2")
	v := viper.New()
	v.Set("name", "from-flag")
	cfg, err := loadConfig(v, file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "from-flag" || cfg.Data != "/from/environment" || cfg.NetworkRetry != 3*time.Second || cfg.QueueLimit != 64<<20 ||
		cfg.Listen != "127.0.0.2:"+node.DefaultPort {
		t.Errorf("%+v", cfg)
	}
}

// TestUnknownEnvironment: a value of the environment is checked as one of the file.
func TestWrongEnvironment(t *testing.T) {
	t.Setenv("UNDERSTUDY_STRICT", "perhaps")
	if _, err := loadConfig(viper.New(), ""); err == nil || !strings.Contains(err.Error(), "strict") {
		t.Error(err)
	}
}

// TestDurability: the setting has two names.
func TestDurability(t *testing.T) {
	for text, want := range map[string]bool{"durability: strict": true, "durability: normal": false, "strict: true": true,
		"durability: strict\nstrict: true": true, "": false} {
		file := filepath.Join(t.TempDir(), "c.yml")
		if err := os.WriteFile(file, []byte("name: indy\ndata: /var/lib/understudy\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := loadConfig(viper.New(), file)
		if err != nil || cfg.Strict != want {
			t.Errorf("%q: strict %v, want %v, %v", text, cfg.Strict, want, err)
		}
	}
}
