package control

// What became of a setting that was set.
const (
	Applied   = "applied"
	Stored    = "stored"    // counts after a restart of the daemon, or once nothing else overrides it
	NoEffect  = "no-effect" // accepted and kept; it does nothing here
	Unchanged = "unchanged" // it had that value
)

// SettingRequest names a setting, and says what to set it to. Reset takes it back to the
// value it has without having been set.
type SettingRequest struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Reset bool   `json:"reset,omitempty"`
}

// Setting is one, as a machine has it.
type Setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Number  bool   `json:"number"`            // the value is a number
	Set     bool   `json:"set"`               // somebody set it; else it is from the configuration, or the default
	Default string `json:"default"`           //
	InForce string `json:"in_force"`          // what counts now; differs from Value until a restart
	Outcome string `json:"outcome,omitempty"` // of a change
	Note    string `json:"note,omitempty"`    // why it has no effect, or when it counts
}

// SettingList answers "setting.list", by name.
type SettingList struct {
	Settings []Setting `json:"settings"`
}
