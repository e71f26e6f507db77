package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"understudy/node"
)

// gcPercent trades memory for processor time: a mirror of a large file makes garbage of
// frame buffers. At 400 it took a fifth less processor time and 290 MiB instead of 118;
// the goal is to stay well under 300 MiB. GOGC is for programs, not for operators.
const gcPercent = 200

func daemonCommand() *cobra.Command {
	var file string
	v := viper.New()
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "run a node: source, target or both",
		Long: `Run a node until SIGTERM. Settings come from the file, from what was set
with SET, from the environment (UNDERSTUDY_NAME, UNDERSTUDY_DATA, ...) and from flags;
the later wins.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(v, file)
			if err != nil {
				return usageError{err}
			}
			if cmd.Flags().Changed("listen") {
				cfg.Pinned = append(cfg.Pinned, "listen") // wins over what was set, as the environment does
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel(v.GetString("log_level"))}))
			stopProfile, err := startProfile()
			if err != nil {
				return err
			}
			defer stopProfile()
			debug.SetGCPercent(gcPercent)
			if len(cfg.LoginCommand) == 0 {
				cfg.LoginCommand = ownHelper()
			}
			n, err := node.Open(cfg, log)
			if err != nil {
				return err
			}
			return goOn(n.Run(cmd.Context()))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "settings, as YAML; ops/sample.yml explains every key")
	flags.String("name", "", "name of this machine (default: its host name)")
	flags.String("data", "", "directory of queues, catalogs and state")
	flags.String("listen", "", "HOST:PORT for peers and clients; the port may be left out")
	for _, key := range []string{"name", "data", "listen"} {
		_ = v.BindPFlag(key, flags.Lookup(key)) // fails only for a nil flag
	}
	return cmd
}

// loadConfig reads file (none if empty), the environment and the flags bound to v,
// and refuses keys it does not know by name.
func loadConfig(v *viper.Viper, file string) (node.Config, error) {
	cfg := node.DefaultConfig()
	cfg.Hold = node.CanHold()
	v.SetEnvPrefix("understudy")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	for _, key := range node.ConfigKeys() {
		_ = v.BindEnv(key) // fails only without a key
	}
	if file != "" {
		v.SetConfigFile(file)
		if err := v.ReadInConfig(); err != nil {
			return cfg, fmt.Errorf("settings %s: %w", file, err)
		}
	}
	settings := v.AllSettings()
	dropEmpty(settings, "name", "data", "listen")
	if err := node.FromOriginals(settings); err != nil {
		return cfg, fmt.Errorf("settings %s: %w", file, err)
	}
	if err := durability(settings); err != nil {
		return cfg, fmt.Errorf("settings %s: %w", file, err)
	}
	delete(settings, "log_level")
	if _, old := settings["secret"]; old {
		return cfg, fmt.Errorf("settings %s: secret: there is none any more: machines know each other by keys. Remove the line, then pair them: %s", file,
			"understudy pair invite, on one, and understudy pair join ADDRESS CODE, on the other")
	}
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: &cfg, ErrorUnused: true, WeaklyTypedInput: true,
		DecodeHook: mapstructure.StringToTimeDurationHookFunc(),
	})
	if err != nil {
		return cfg, err
	}
	if err := dec.Decode(settings); err != nil {
		return cfg, fmt.Errorf("settings %s: %w", file, explainUnknown(err))
	}
	for _, key := range node.ConfigKeys() {
		if os.Getenv("UNDERSTUDY_"+strings.ToUpper(key)) != "" {
			cfg.Pinned = append(cfg.Pinned, key)
		}
	}
	return completed(cfg)
}

// durability makes "durability: strict" of the design the setting strict.
func durability(settings map[string]any) error {
	v, given := settings["durability"]
	if !given {
		return nil
	}
	delete(settings, "durability")
	strict := v == "strict"
	if !strict && v != "normal" {
		return fmt.Errorf("durability: %v: normal or strict is accepted", v)
	}
	if s, both := settings["strict"]; both && fmt.Sprint(s) != fmt.Sprint(strict) {
		return fmt.Errorf("durability: %v and strict: %v say different things; leave one out", v, s)
	}
	settings["strict"] = strict
	return nil
}

// completed fills in what depends on the machine and validates.
func completed(cfg node.Config) (node.Config, error) {
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return cfg, fmt.Errorf("host name: %w; give --name", err)
		}
		cfg.Name, _, _ = strings.Cut(host, ".")
	}
	if cfg.Listen != "" && !strings.Contains(cfg.Listen, ":") {
		cfg.Listen += ":" + node.DefaultPort
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("settings: %w", err)
	}
	return cfg, nil
}

func dropEmpty(settings map[string]any, keys ...string) {
	for _, key := range keys {
		if settings[key] == "" {
			delete(settings, key)
		}
	}
}

var invalidKeys = regexp.MustCompile(`'([^']*)' has invalid keys: (.*)`)

// explainUnknown says which keys are not known, where, and which are; and one problem
// per line.
func explainUnknown(err error) error {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		if line == "" || strings.HasPrefix(line, "decoding failed") {
			line = strings.TrimPrefix(line, "decoding failed due to the following error(s):")
		}
		if m := invalidKeys.FindStringSubmatch(line); m != nil {
			line = "unknown key " + m[2]
			if m[1] != "" {
				line += " in " + m[1]
			} else {
				line += "; known keys: " + strings.Join(node.ConfigKeys(), ", ")
			}
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return errors.New(strings.Join(lines, "\n"))
}

func logLevel(name string) slog.Level {
	var l slog.Level
	if name == "" || l.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo
	}
	return l
}
