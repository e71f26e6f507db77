package node

import (
	"fmt"
	"testing"
)

func TestOriginalNamesOfSettings(t *testing.T) {
	got := map[string]any{"autoreconnect": 0, "autoremirror": 3, "autoremirrorretry": 45, "networkretry": "10", "qjournalspacemax": 4294967295,
		"qjournalfreespacemin": 50, "qmemorybuffermax": 128, "name": "indy"}
	must(t, FromOriginals(got))
	want := map[string]any{"auto_reconnect": false, "auto_remirror": 3, "auto_remirror_retry": "45s", "network_retry": "10s", "queue_limit": "4503599626321920",
		"queue_free": "52428800", "memory_limit": "134217728", "name": "indy"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	for _, bad := range []map[string]any{{"networkretry": 1, "network_retry": "1s"}, {"qjournalspacemax": -1}, {"qjournalspacemax": "much"}} {
		if err := FromOriginals(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
