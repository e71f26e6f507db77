package node

import (
	"fmt"
	"strings"

	"understudy/settings"
)

// FromOriginals replaces settings under the original's names, which are keys of the
// configuration file in lower case, by those of ConfigKeys. They are in the original's
// units.
func FromOriginals(config map[string]any) error {
	for i := range settings.Table {
		s := &settings.Table[i]
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			v, ok := config[strings.ToLower(name)]
			if !ok || s.Key == "" || strings.ToLower(name) == s.Key {
				continue
			}
			if _, both := config[s.Key]; both {
				return fmt.Errorf("%s and %s: give one of them", strings.ToLower(name), s.Key)
			}
			value, err := s.Parse(fmt.Sprint(v))
			if err != nil {
				return fmt.Errorf("%s: %v: as in the original, %s", strings.ToLower(name), v, s.Range())
			}
			cfg := Config{Listen: ":0"}
			if err := cfg.set(s, value); err != nil {
				return err
			}
			f, _ := cfg.field(s.Key)
			config[s.Key] = f.Interface()
			delete(config, strings.ToLower(name))
		}
	}
	return nil
}
