package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"understudy/capture/holder"
	"understudy/failover"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// Config of one node. Zero fields are not defaults: start from DefaultConfig.
type Config struct {
	Name   string `mapstructure:"name"`   // of this machine; letters, digits, - and _
	Data   string `mapstructure:"data"`   // directory of queues, catalogs and state, absolute
	Listen string `mapstructure:"listen"` // host:port for peers and clients

	AdminGroup   string   `mapstructure:"admin_group"`   // members may change (B15.3)
	MonitorGroup string   `mapstructure:"monitor_group"` // members may look
	LoginCommand []string `mapstructure:"login_command"` // checks passwords, as `understudy pam-helper` does; empty: none are accepted

	Mounts      []string           `mapstructure:"mounts"` // directories captured in write order
	NATS        NATSConfig         `mapstructure:"nats"`   // a cluster that keeps the queues
	Connections []ConnectionConfig `mapstructure:"connections"`

	QueueLimit   int64         `mapstructure:"queue_limit"`   // bytes of one connection's disk queue (QJournalSpaceMax)
	MemoryLimit  int64         `mapstructure:"memory_limit"`  // bytes of one connection's memory queue (QMemoryBufferMax)
	MirrorWindow int64         `mapstructure:"mirror_window"` // bytes of mirror data under way (MirrorQueueLimit)
	NetworkRetry time.Duration `mapstructure:"network_retry"` // between attempts to reach a lost target
	RescanEvery  time.Duration `mapstructure:"rescan_every"`  // of captures that only get hints

	TargetRetry      time.Duration `mapstructure:"target_retry"`       // between attempts of an operation a target cannot execute (TGRetryLocked)
	TargetRetryLimit int           `mapstructure:"target_retry_limit"` // attempts before it is dropped and a mirror is due; 0: for ever (TGExecutionRetryLimit)
	Hold             bool          `mapstructure:"hold"`               // captured directories outlive this process: a holder keeps them
	HoldGrace        time.Duration `mapstructure:"hold_grace"`         // how long applications wait for a daemon to come back
	Watchdog         time.Duration `mapstructure:"watchdog"`           // after how long the holder kills a daemon that hangs
	TaskCommands     bool          `mapstructure:"task_commands"`      // programs of task commands run on this machine (EnableTaskCmdProcessing)
	Strict           bool          `mapstructure:"strict"`             // queues synced to disk at every write
	QueueFree        int64         `mapstructure:"queue_free"`         // bytes of the queue's disk that stay free (QJournalFreeSpaceMin); 0: 1 GiB, or 5 % of a small disk
	LoadSource       bool          `mapstructure:"load_source"`        // be a source from the start
	LoadTarget       bool          `mapstructure:"load_target"`
	AutoReconnect    bool          `mapstructure:"auto_reconnect"` // after a restart or a lost queue
	AutoRemirror     AutoRemirror  `mapstructure:"auto_remirror"`  // the mirror after that: 0 none, 1 differences by checksum, 2 full, 3 differences by date and size
	// AutoRemirrorRetry is the longest time between mirrors that the target asks for.
	AutoRemirrorRetry time.Duration `mapstructure:"auto_remirror_retry"`

	History    string `mapstructure:"history"`     // how much of its replicas' past this machine keeps as a target (History): an age, a size, both, or off
	HistoryDir string `mapstructure:"history_dir"` // where (HistoryDir); "": in Data

	QueueDir     string `mapstructure:"queue_dir"`      // of the queues on disk (QJournalDir); "": in Data
	BackupDir    string `mapstructure:"backup_dir"`     // of the copies of sources' replication sets (BackupDir); "": in Data
	LogDir       string `mapstructure:"log_dir"`        // of the event journal (LogDir); "": in Data
	LogFileBytes int64  `mapstructure:"log_file_bytes"` // of one file of it (MaxLogFileSize)
	LogFiles     int    `mapstructure:"log_files"`      // of it (MaxNumberofLogFiles)

	StatsLogging  bool          `mapstructure:"stats_logging"`  // from the start of the daemon (StatsLoggingOn)
	StatsFile     string        `mapstructure:"stats_file"`     // name, in the folder of logs (StatsFileName)
	StatsMax      int64         `mapstructure:"stats_max"`      // bytes of it (StatsMaxFileSize)
	StatsInterval time.Duration `mapstructure:"stats_interval"` // between writes; 0: each snapshot at once (StatsWriteInterval)
	StatsKeepOld  bool          `mapstructure:"stats_keep_old"` // keep the file of the last time (SaveStatFile)

	MirrorChunk        int64         `mapstructure:"mirror_chunk"`         // bytes of a block that difference mirrors compare (MirrorChunkSize)
	ReplicationRatio   int           `mapstructure:"replication_ratio"`    // bytes of changes for one byte of a mirror (HPQueueRatio)
	ChecksumAll        bool          `mapstructure:"checksum_all"`         // a mirror by checksum believes no date (ChecksumAll)
	CalculateOnConnect bool          `mapstructure:"calculate_on_connect"` // measure a set when its connection begins (CalculateOnConnect)
	CalculateByVolume  bool          `mapstructure:"calculate_by_volume"`  // by what its volumes use (CalculateByVolume)
	QueueAlert         int           `mapstructure:"queue_alert"`          // percent of a queue in use that is told; 0: none (QueueSizeAlertThreshold)
	HeartbeatEvery     time.Duration `mapstructure:"heartbeat_every"`      // 0: none are sent (HBExternalRate)
	HeartbeatTTL       time.Duration `mapstructure:"heartbeat_ttl"`        // a machine unheard for so long is away (HBTTL)

	RemapLink     bool          `mapstructure:"remap_link"`      // absolute links into the set point to its place on the target (RemapLink)
	OrphansDir    string        `mapstructure:"orphans_dir"`     // where orphans are moved to (MoveOrphansDir); "": they are removed
	MoveOrphans   bool          `mapstructure:"move_orphans"`    // false: they are removed in any case (MoveOrphanedFiles)
	OrphansMinAge time.Duration `mapstructure:"orphans_min_age"` // orphans changed more recently stay (B7.33)

	VerifyLogName    string        `mapstructure:"verify_log_name"`    // behind the set's name, in the folder of the event journal (VerifyLogName)
	VerifyLogAppend  bool          `mapstructure:"verify_log_append"`  // false: each verification replaces it (VerifyLogAppend)
	VerifyLogLimit   int64         `mapstructure:"verify_log_limit"`   // bytes (VerifyLogLimit); 0: none is written
	VerifyRetry      time.Duration `mapstructure:"verify_retry"`       // between attempts of a scheduled verification that could not begin (VerifyRetryInterval)
	VerifyRetryLimit int           `mapstructure:"verify_retry_limit"` // attempts after the first (VerifyRetryLimit)

	// What monitors get that do not say otherwise: the first two everywhere, the rest when
	// they are made.
	FailoverInterval      time.Duration `mapstructure:"failover_interval"`       // between requests (PingFrequency)
	FailoverMissed        int           `mapstructure:"failover_missed"`         // of them (MissedPackets)
	FailoverMissedService int           `mapstructure:"failover_missed_service"` // of those to the daemon (MissedHeartbeats)
	FailoverAll           bool          `mapstructure:"failover_all"`            // all addresses must be silent (AllMustFail)
	FailoverAddresses     bool          `mapstructure:"failover_addresses"`      // they move (IPFailover)
	FailoverAsk           bool          `mapstructure:"failover_ask"`            // a person decides (UserIntervention)
	PreFailoverScript     string        `mapstructure:"pre_failover_script"`
	PreFailoverArgs       string        `mapstructure:"pre_failover_args"`
	PreFailoverWait       bool          `mapstructure:"pre_failover_wait"`
	PostFailoverScript    string        `mapstructure:"post_failover_script"`
	PostFailoverArgs      string        `mapstructure:"post_failover_args"`
	PreFailbackScript     string        `mapstructure:"pre_failback_script"`
	PreFailbackArgs       string        `mapstructure:"pre_failback_args"`
	PreFailbackWait       bool          `mapstructure:"pre_failback_wait"`
	PostFailbackScript    string        `mapstructure:"post_failback_script"`
	PostFailbackArgs      string        `mapstructure:"post_failback_args"`

	// Pinned are the keys whose values the environment or flags gave: settings that are
	// stored do not replace them.
	Pinned []string `mapstructure:"-"`

	// RecheckGroups is how often the groups of users who are logged in are looked at; 0:
	// every 15 s. For tests.
	RecheckGroups time.Duration `mapstructure:"-"`
}

// ConnectionConfig is a connection that exists whenever the node runs.
type ConnectionConfig struct {
	Set     string            `mapstructure:"set" json:"set"`
	Rules   []string          `mapstructure:"rules" json:"rules"`
	Target  string            `mapstructure:"target" json:"target"`
	Address string            `mapstructure:"address" json:"address"`
	Map     map[string]string `mapstructure:"map" json:"map,omitempty"`
	Base    string            `mapstructure:"base" json:"base,omitempty"`
	Capture string            `mapstructure:"capture" json:"capture,omitempty"`
	Adopt   bool              `mapstructure:"adopt" json:"adopt,omitempty"`
	History string            `mapstructure:"history" json:"history,omitempty"` // the target keeps so much; "": what it keeps of all
	// Restore makes it a restoration; nil: it is none.
	Restore *restoreConfig `mapstructure:"-" json:"restore,omitempty"`
}

// NATSConfig names an external NATS cluster that keeps this machine's queues. Without URLs
// they are on its own disk.
type NATSConfig struct {
	URLs     []string `mapstructure:"urls"`     // nats://host:port or tls://host:port
	Creds    string   `mapstructure:"creds"`    // file of a user's credentials; "": none
	CA       string   `mapstructure:"ca"`       // file of the certificates its servers are known by; "": the system's
	Replicas int      `mapstructure:"replicas"` // servers that keep each queue; 0: 3
}

func (c *NATSConfig) cluster() *stream.ClusterConfig {
	return &stream.ClusterConfig{URLs: c.URLs, Creds: c.Creds, CA: c.CA, Replicas: c.Replicas}
}

// DefaultPort is where a node listens for peers and clients.
const DefaultPort = "6320"

// DefaultConfig has every default.
func DefaultConfig() Config {
	return Config{
		Data:          "/var/lib/understudy",
		Listen:        "127.0.0.1:" + DefaultPort,
		AdminGroup:    "dtadmin",
		MonitorGroup:  "dtmon",
		QueueLimit:    16 << 30,
		MemoryLimit:   128 << 20,  // B6.23
		MirrorWindow:  1000 << 14, // 1000 mirror operations (B7.17); measured: more gains nothing on a fast link and delays replication on a slow one
		NetworkRetry:  time.Second,
		TargetRetry:   3 * time.Second, // the original's
		RescanEvery:   10 * time.Minute,
		LoadSource:    true,
		LoadTarget:    true,
		AutoReconnect: true,             // B6.37
		AutoRemirror:  RemirrorChecksum, // B7.45

		AutoRemirrorRetry: 30 * time.Second, // B7.49

		LogFileBytes: 1 << 20, LogFiles: 5,
		MirrorChunk:      mirror.DefaultBlockSize,
		ReplicationRatio: 5,
		ChecksumAll:      true, CalculateOnConnect: true, // both the original's
		QueueAlert:     50, // B6.29
		HeartbeatEvery: 3 * time.Second, HeartbeatTTL: 10 * time.Second,

		RemapLink:        true, // B5.31
		FailoverInterval: failover.DefaultInterval, FailoverMissed: failover.DefaultMissed, FailoverMissedService: failover.DefaultMissedService,
		FailoverAll: true, FailoverAddresses: true, FailoverAsk: true,
		MoveOrphans: true,
		StatsFile:   "statistic.sts", StatsMax: 10 << 20, StatsInterval: 5 * time.Minute, StatsKeepOld: true,
		VerifyLogName: "DTVerify.log", VerifyLogAppend: true, VerifyLogLimit: 1 << 20, // B9.13, B9.15, B9.16
		VerifyRetry: 3 * time.Minute, VerifyRetryLimit: 5,

		HoldGrace: holder.DefaultGrace,
		Watchdog:  holder.DefaultWatchdog,
	}
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// Validate reports all problems at once, each with its key, its value and what would
// be accepted.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s: %v: %s", key, value, want))
	}
	if !nodeName.MatchString(c.Name) {
		bad("name", fmt.Sprintf("%q", c.Name), "letters, digits, - and _, at most 63")
	}
	if !filepath.IsAbs(c.Data) {
		bad("data", fmt.Sprintf("%q", c.Data), "an absolute path of a directory")
	}
	c.validateListen(bad)
	for key, v := range map[string]int64{"queue_limit": c.QueueLimit, "memory_limit": c.MemoryLimit} {
		if v < 32<<20 {
			bad(key, v, "at least 33554432 (32 MiB)") // B6.23; the store's block size wants it too
		}
	}
	if c.MirrorWindow < 1<<20 || c.MirrorWindow > 1<<30 {
		bad("mirror_window", c.MirrorWindow, "1048576 to 1073741824 bytes")
	}
	if c.TargetRetry < 10*time.Millisecond || c.TargetRetry > 24*time.Hour {
		bad("target_retry", c.TargetRetry, "10ms to 24h")
	}
	if c.TargetRetryLimit < 0 || c.TargetRetryLimit > 65536 {
		bad("target_retry_limit", c.TargetRetryLimit, "0 to 65536")
	}
	c.validateFailover(bad)
	for _, d := range []struct {
		key          string
		value, least time.Duration
	}{
		{"network_retry", c.NetworkRetry, 100 * time.Millisecond}, {"rescan_every", c.RescanEvery, time.Second}, {"hold_grace", c.HoldGrace, time.Second},
		{"watchdog", c.Watchdog, time.Second}, {"auto_remirror_retry", c.AutoRemirrorRetry, 100 * time.Millisecond},
	} {
		if d.value < d.least {
			bad(d.key, d.value, fmt.Sprint("at least ", d.least))
		}
	}
	if c.QueueFree < 0 {
		bad("queue_free", c.QueueFree, "0 or more bytes")
	}
	if c.AutoRemirror < RemirrorNone || c.AutoRemirror > RemirrorDiff {
		bad("auto_remirror", int(c.AutoRemirror), "0 none, 1 differences by checksum, 2 full, 3 differences by date and size")
	}
	c.validateSettings(bad)
	if _, err := parseKeep(c.History); err != nil {
		bad("history", fmt.Sprintf("%q", c.History), "an age as 72h or 14d, a size as 500GB, both with a comma, or off")
	}
	if err := c.NATS.cluster().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("nats: %w", err))
	}
	for _, dir := range c.Mounts {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			bad("mounts", fmt.Sprintf("%q", dir), "an absolute path other than /")
		}
	}
	for i := range c.Connections {
		if err := c.Connections[i].validate(); err != nil {
			errs = append(errs, fmt.Errorf("connections[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateFailover(bad func(string, any, string)) {
	if c.FailoverInterval < 50*time.Millisecond || c.FailoverInterval > 65535*time.Second {
		bad("failover_interval", c.FailoverInterval, "50ms to 65535s")
	}
	for key, v := range map[string]int{"failover_missed": c.FailoverMissed, "failover_missed_service": c.FailoverMissedService} {
		if v < 1 || v > 65535 {
			bad(key, v, "1 to 65535")
		}
	}
	for key, v := range map[string]string{"pre_failover_script": c.PreFailoverScript, "post_failover_script": c.PostFailoverScript,
		"pre_failback_script": c.PreFailbackScript, "post_failback_script": c.PostFailbackScript} {
		if v != "" && !filepath.IsAbs(v) {
			bad(key, fmt.Sprintf("%q", v), "an absolute path on the target, or nothing")
		}
	}
}

func (c *Config) validateListen(bad func(string, any, string)) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		bad("listen", fmt.Sprintf("%q", c.Listen), "HOST:PORT, for example 127.0.0.1:6320")
		return
	}
	if host == "" {
		bad("listen", fmt.Sprintf("%q", c.Listen), "an address of this machine; 0.0.0.0 for all of them")
	}
}

func (c *ConnectionConfig) validate() error {
	var errs []error
	if c.Set == "" {
		errs = append(errs, errors.New("set: give the replication set a name"))
	}
	if !nodeName.MatchString(c.Target) {
		errs = append(errs, fmt.Errorf("target: %q: the name of the target machine", c.Target))
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %q: HOST:PORT of the target", c.Address))
	}
	switch c.Capture {
	case "", "auto", "stacked", "fanotify", "inotify":
	default:
		errs = append(errs, fmt.Errorf("capture: %q: auto, stacked, fanotify or inotify", c.Capture))
	}
	if _, err := parseKeep(c.History); err != nil {
		errs = append(errs, err)
	}
	if len(c.Map) > 0 && c.Base != "" {
		errs = append(errs, errors.New("map and base: give one of them"))
	}
	if _, err := c.rules(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// rules parses and compiles the written rules.
func (c *ConnectionConfig) rules() (*repset.Rules, error) {
	var list []repset.Rule
	for _, s := range c.Rules {
		r, err := repset.ParseRule(s)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		list = append(list, r)
	}
	compiled, err := repset.Compile(list)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return compiled, nil
}
